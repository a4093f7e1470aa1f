from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ml_platform.serving.router_answers import Answer
from ml_platform.serving.triton import router_tensors
from ml_platform.serving.triton.router_tensors import AnswerTensors, texts

ALL = ("score", "decision", "version", "prediction_id", "reason_codes", "epoch")
CODES = st.lists(st.sampled_from(["AMOUNT", "INCOME", "BURDEN", "TERM", "GRADE"]), max_size=5, unique=True).map(tuple)
ROW = st.tuples(
    st.floats(0, 1, width=32), st.sampled_from([None, "approved", "declined"]), st.integers(1, 3), st.uuids(), CODES
)
ANSWERS = st.lists(st.tuples(st.lists(ROW, min_size=1, max_size=3), st.integers(1, 4)), max_size=8)


class Tensor(NamedTuple):
    """What Triton's tensor holds, as far as we use it."""

    name: str
    values: Any


class Pb:
    Tensor = Tensor


def answer(rows: list[Any], epoch: int = 1) -> Answer:
    scores, decisions, versions, ids, reasons = map(list, zip(*rows, strict=True))
    outputs = {"score": np.array(scores, np.float32).reshape(-1, 1)}
    return Answer(outputs, decisions, versions, [str(one) for one in ids], reasons, epoch)


def one_row(number: int, reasons: tuple[str, ...] = ()) -> Answer:
    return answer([(0.5, "approved", 1, f"id-{number}", reasons)])


@given(ANSWERS, st.permutations(ALL))
def test_tensors_say_what_the_answer_says_whatever_was_answered_before(given_answers: Any, wanted: list[str]):
    tensors = AnswerTensors(Pb, ["score"])
    for rows, epoch in given_answers:
        found = tensors.of(answer(rows, epoch), wanted)
        assert [one.name for one in found] == wanted
        by_name = {one.name: one.values for one in found}
        assert all(len(values) == len(rows) for values in by_name.values())
        for place, (score, decision, version, number, reasons) in enumerate(rows):
            assert by_name["score"][place].tolist() == [score]
            assert by_name["decision"][place].tolist() == [(decision or "").encode()]
            assert by_name["version"][place].tolist() == [version]
            assert by_name["prediction_id"][place].tolist() == [str(number).encode()]
            codes = [one.decode() for one in by_name["reason_codes"][place].tolist()]
            assert codes == (list(reasons[:4]) + [""] * 4)[:4]
            assert by_name["epoch"][place].tolist() == [epoch]
        assert {by_name[name].dtype.str for name in ("version", "epoch")} == {"<i8"}
        assert by_name["reason_codes"].shape == (len(rows), 4)


def test_only_what_is_asked_for_is_made():
    assert [one.name for one in AnswerTensors(Pb, ["score"]).of(one_row(1), ["epoch", "score"])] == ["epoch", "score"]
    assert AnswerTensors(Pb, ["score"]).of(one_row(1), []) == []


def test_what_repeats_is_made_once_and_an_id_or_a_score_never_is_given_out_again():
    tensors = AnswerTensors(Pb, ["score"])
    first, second = tensors.of(one_row(1), ALL), tensors.of(one_row(2), ALL)
    shared = {a.name for a, b in zip(first, second, strict=True) if a is b}
    assert shared == {"decision", "version", "reason_codes", "epoch"}
    tensors.forget()
    third = tensors.of(one_row(3), ALL)
    assert not [a.name for a, b in zip(first, third, strict=True) if a is b]


def test_an_equal_epoch_and_version_are_not_taken_for_each_other():
    found = AnswerTensors(Pb, ["score"]).of(answer([(0.5, None, 7, "x", ())], epoch=7), ["version", "epoch"])
    assert [one.name for one in found] == ["version", "epoch"]


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(router_tensors, "_MOST_KEPT", 3)
    made = 0

    class Counting(Pb):
        @staticmethod
        def Tensor(name: str, values: Any) -> Tensor:  # noqa: N802 - Triton's name
            nonlocal made
            made += 1
            return Tensor(name, values)

    tensors = AnswerTensors(Counting, ["score"])
    for number in (0, 1, 2, 0, 1, 2):
        tensors.of(one_row(number, (f"R{number}",)), ["reason_codes"])
    assert made == 3  # three are kept
    tensors.of(one_row(3, ("R3",)), ["reason_codes"])
    tensors.of(one_row(0, ("R0",)), ["reason_codes"])
    assert made == 5  # the fourth made room: all before it are made again


def test_texts_are_bytes_in_rows():
    assert texts(["a", "é", "", "d"], 2).tolist() == [[b"a", "é".encode()], [b"", b"d"]]
