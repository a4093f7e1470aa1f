"""What is kept between look-ups is what the tables say now, whoever added to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ml_platform.core.delta import Lake
from ml_platform.core.ids import id_text
from ml_platform.serving import RecordReader, held
from ml_platform.serving.held import HeldIndex, held_index
from tests.serving.online_support import MODEL, WRITER, OnlineWorld, decisions, log_all, make_online, sealer


@pytest.fixture
def online(tmp_path: Path, artifact_parts: dict[str, bytes]) -> OnlineWorld:
    return make_online(tmp_path / "root", artifact_parts)


def writer(number: int) -> str:
    return f"router-{number:032x}"


def by_entity(online: OnlineWorld, one: object) -> list[str]:
    return online.world.reader.find_by_entity(
        online.world.subjects,
        model=MODEL,
        entity="loan",
        personal=True,
        key=one.section.keys,  # type: ignore[attr-defined]
    )


def test_segments_that_another_process_added_are_seen(online: OnlineWorld) -> None:
    reader = RecordReader(Lake(online.root / "lake"), online.world.objects)
    for number in range(3):
        made = decisions(online, 5, writer=writer(number))
        log_all(online, made, writer=writer(number))
        sealer(online).run()
        found = reader.find(id_text(made[2].header.prediction_id))
        assert found.segment.id == f"{writer(number)}.0"
        assert by_entity(online, made[3]) == [id_text(made[3].header.prediction_id)]


def test_every_record_is_found_by_its_entity(online: OnlineWorld) -> None:
    made = decisions(online, 300)
    log_all(online, made)
    sealer(online).run()
    for one in made[::7]:
        assert by_entity(online, one) == [id_text(one.header.prediction_id)]


def test_files_with_many_rows_are_asked_directly(online: OnlineWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "_WHOLE_ROWS", 10)
    made = decisions(online, 30)
    log_all(online, made)
    sealer(online).run()
    assert by_entity(online, made[11]) == [id_text(made[11].header.prediction_id)]
    assert held_index(online.world.lake)._prefixes == {}


def test_what_is_kept_has_a_limit(online: OnlineWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "_MOST_BYTES", 12 * 16)
    for number in range(3):
        made = decisions(online, 10, writer=writer(number))
        log_all(online, made, writer=writer(number))
    sealer(online).run()
    assert by_entity(online, made[4]) == [id_text(made[4].header.prediction_id)]
    assert len(held_index(online.world.lake)._prefixes) == 1


def test_a_rewritten_table_is_searched_whole(online: OnlineWorld) -> None:
    made = decisions(online, 20)
    log_all(online, made)
    sealer(online).run()
    from deltalake import DeltaTable

    log_all(online, decisions(online, 20, writer=writer(9)), writer=writer(9))
    sealer(online).run()
    DeltaTable(online.world.lake.uri(f"{MODEL}/predictions_personal")).optimize.compact()
    files = DeltaTable(online.world.lake.uri(f"{MODEL}/predictions_personal")).file_uris()
    assert not [one for one in files if WRITER in one]
    found = online.world.reader.find(id_text(made[6].header.prediction_id))
    assert found.personal is not None
    assert found.personal["key_loan_id"] == made[6].section.keys[0][1]


def test_an_incomplete_segment_is_not_remembered_as_complete(online: OnlineWorld) -> None:
    index = HeldIndex()
    assert not index.complete(online.world.objects, "segments/a/segment.json")
    online.world.objects.create("segments/a/segment.json", b"{}")
    assert index.complete(online.world.objects, "segments/a/segment.json")


def test_an_entity_that_is_not_there_is_not_found(online: OnlineWorld) -> None:
    made = decisions(online, 20)
    log_all(online, made)
    sealer(online).run()
    rng = np.random.default_rng(1)
    for _ in range(20):
        assert (
            held_index(online.world.lake).entity(
                online.world.lake, model=MODEL, month="2010-06", index=rng.bytes(32).hex()
            )
            == []
        )
