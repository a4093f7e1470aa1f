"""Which requests of a window already have an online decision of record: those a batch must not decide again."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.dataset as ds

from ml_platform.core.contract import Contract
from ml_platform.core.errors import NotFound
from ml_platform.core.rows import encode_row, micros
from ml_platform.governance.contracts import KnownContracts
from ml_platform.platform import Platform
from ml_platform.serving.decided import DecidedRows, row_keys
from ml_platform.serving.intent import Intent, newest_revision, read_intent
from ml_platform.serving.tables import SEGMENTS, key_column, personal_table, predictions_table
from ml_platform.serving.unsealed import UnsealedRecords
from ml_platform.serving.wal import WAL_FOLDER

__all__ = ["decided_rows"]

_US = pa.timestamp("us", "UTC")


def decided_rows(platform: Platform, model: str, partition: str, entity: str, contract: Contract) -> DecidedRows:
    """The rows that the partition's newest intent leaves out; fixed for it by whoever asks first.

    Args:
        platform: the root.
        model: model name.
        partition: the partition's key; its intent exists.
        entity: name of the model's entity.
        contract: of the version that decides, which names keys and request time.

    Raises:
        NotFound: nobody began the partition.
    """
    revision = newest_revision(platform.objects, model, partition)
    if revision is None:
        raise NotFound("Nobody began the partition.", field=partition, next_step="Score it: its intent comes first.")
    intent = read_intent(platform.objects, model, partition, revision)
    seed = platform.subjects.seeds(entity, [b""])[0]
    # The logs first: what is sealed meanwhile is in the tables before it leaves them.
    found = _unsealed(platform, intent) | _sealed(platform, intent, contract)
    return DecidedRows.pinned(platform.objects, intent, seed, found)


def _unsealed(platform: Platform, intent: Intent) -> set[bytes]:
    start, end = intent.window_us
    return {
        encode_row([*one.section.keys, ("us", one.section.request_time_us)])
        for one in UnsealedRecords(platform.root / WAL_FOLDER, KnownContracts(platform)).decisions(intent.model)
        if one.header.decision_of_record
        and start <= one.section.request_time_us < end
        and one.header.decided_at_us <= intent.decided_at_us
    }


def _any_online(platform: Platform, model: str) -> bool:
    """Whether any segment of the model is not a batch's; the index is small, the tables are not."""
    if not platform.lake.exists(SEGMENTS):
        return False
    markers = platform.lake.read(SEGMENTS, columns=["marker"], where=ds.field("model") == model).column(0)
    return any(not str(one).startswith("batch/") for one in markers.to_pylist())


def _sealed(platform: Platform, intent: Intent, contract: Contract) -> set[bytes]:
    headers, personal = predictions_table(intent.model), personal_table(intent.model)
    if not _any_online(platform, intent.model):
        return set()
    start, end = (pa.scalar(at, _US) for at in intent.window_us)
    since = ds.field("decided_date") >= intent.start[:10]  # nobody decides before the request
    decided = pa.scalar(micros(intent.decided_time), _US)
    where = since & (ds.field("mode") != "batch") & ds.field("decision_of_record") & (ds.field("decided_at") <= decided)
    ids = platform.lake.read(headers, columns=["prediction_id"], where=where)
    if not ids.num_rows:
        return set()
    keys = [key_column(name) for name, _ in contract.entity_keys]
    rows = platform.lake.read(
        personal,
        columns=["prediction_id", "request_time", *keys],
        where=since & (ds.field("request_time") >= start) & (ds.field("request_time") < end),
    )
    rows = rows.join(ids, "prediction_id", join_type="inner")
    return set(row_keys(rows, keys, "request_time"))
