"""A worker at a real broker: every event becomes an answer with its record, or a dead letter, exactly once."""

from __future__ import annotations

from collections.abc import Callable

from tests.serving.stream.support import StreamRoot, produce, values, work


def test_events_become_answers_records_and_dead_letters(stream_root: Callable[..., StreamRoot]) -> None:
    root = stream_root()
    events = [values(loan, grade="Z") if loan % 11 == 0 else values(loan) for loan in range(1, 301)]
    stream = root.open()
    produce(root, [*events, b"\xffno event"])
    work(stream, 301)
    stream.close()
    written = root.written()
    written.check(root, 301)
    assert len(written.letters) == 28
