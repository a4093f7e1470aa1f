"""The router in a real Triton server, with both executors: answers, refusals, records."""

from __future__ import annotations

import http.client
import json
import re
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_platform.core.errors import ContractViolation
from ml_platform.lifecycle import predict
from ml_platform.serving.online_record import LoggedRefusal
from ml_platform.serving.scorer import Scorer
from tests.serving.triton.routed import MODEL, RunningRouter, contract, request

_UNREADABLE = (b'{"error":"failed to parse the request JSON', b'{"error":"Unable to parse')
UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def reference(router: RunningRouter, loans: list[dict[str, Any]], version: int = 1):
    """What batch would decide of the same rows: through the contract's tables and the same artifact."""
    from ml_platform.serving.preparing import TextLists
    from ml_platform.training.contract import prepare

    rows = pa.table(
        {
            "loan_id": pa.array([loan["loan_id"] for loan in loans], pa.int64()),
            "applied_at": pa.array([0] * len(loans), pa.timestamp("us", "UTC")),
            "amount": pa.array([loan["amount"] for loan in loans], pa.float64()),
            "income": pa.array([loan["income"] for loan in loans], pa.float64()),
            "term": pa.array([loan["term"] for loan in loans], pa.int64()),
            "grade": pa.array([loan["grade"] for loan in loans], pa.string()),
        }
    )
    income = rows.column("income").to_numpy(zero_copy_only=False)
    rows = rows.append_column("burden", pa.array(rows.column("amount").to_numpy() * 12 / income, from_pandas=True))
    prepared = prepare(contract(), rows)
    assert prepared.accepted.all()
    decided = Scorer.load(router.root.objects, router.root.artifacts[version]).decide(prepared.matrix)
    assert isinstance(decided.reasons, TextLists)
    texts = [decided.decision_texts[code] for code in decided.decisions.tolist()]
    reasons = [decided.reasons.lists[code] for code in decided.reasons.codes.tolist()]
    return decided.outputs["score"], texts, reasons


def loans(count: int, seed: int = 1) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [
        {
            "loan_id": place,
            "amount": float(rng.normal() ** 2),
            "income": float(rng.uniform(10, 90)),
            "term": int(rng.choice([36, 60])),
            "grade": str(rng.choice(["A", "B", "C"])),
        }
        for place in range(count)
    ]


def test_concurrent_requests_get_the_bits_the_decision_and_the_reasons_that_batch_would_give(router: RunningRouter):
    rows = loans(200)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda loan: router.ask(request(**loan)), rows))
    scores, decisions, reasons = reference(router, rows)
    assert np.concatenate([answer["score"].reshape(-1) for answer in answers]).tobytes() == scores.tobytes()
    assert [answer["decision"][0, 0] for answer in answers] == decisions
    assert {"approved", "declined"} == set(decisions)
    given = [tuple(reason for reason in answer["reason_codes"][0] if reason) for answer in answers]
    assert given == [tuple(one) for one in reasons]
    assert {answer["version"][0, 0] for answer in answers} == {1}
    assert {answer["epoch"][0, 0] for answer in answers} == {1}
    ids = [answer["prediction_id"][0, 0] for answer in answers]
    assert len(set(ids)) == 200
    assert all(UUID7.fullmatch(one) for one in ids)


def test_every_answer_is_in_the_log_exactly_once(router: RunningRouter):
    from ml_platform.core.ids import id_text

    rows = loans(100, seed=2)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda loan: router.ask(request(**loan)), rows))
    logged = router.root.decisions()
    records = {id_text(one.header.prediction_id): one for one in logged}
    assert len(records) == len(logged)
    assert [one.header.seq for one in logged] == list(range(len(logged)))
    for loan, answer in zip(rows, answers, strict=True):
        record = records[answer["prediction_id"][0, 0]]
        assert record.section.keys == (("i64", loan["loan_id"]),)
        assert record.section.outputs == (answer["score"][0, 0],)
        assert record.section.decision == answer["decision"][0, 0]
        assert (record.header.mode, record.header.role, record.header.version) == ("online", "primary", 1)
    assert len({one.salt for one in logged}) == len(logged)


def test_several_rows_are_answered_in_order(router: RunningRouter):
    rows = loans(7, seed=3)
    single = [request(**loan) for loan in rows]
    answer = router.ask({name: np.concatenate([one[name] for one in single]) for name in single[0]})
    assert answer["score"].tobytes() == reference(router, rows)[0].tobytes()
    assert answer["reason_codes"].shape == (7, 4)


def test_a_null_is_said_by_its_companion(router: RunningRouter):
    null = np.array([[True]])
    by_mask = router.ask(request(), **{"income.null": null})
    left_out = router.ask(request(), income=None, **{"income.null": null})
    assert by_mask["score"].tobytes() == left_out["score"].tobytes()
    not_null = router.ask(request(), **{"income.null": ~null})
    assert not_null["score"].tobytes() == router.ask(request())["score"].tobytes()
    defaulted = router.ask(request(grade="A"), **{"grade.null": null})  # on_null="default", default="B"
    assert defaulted["score"].tobytes() == router.ask(request(grade="B"))["score"].tobytes()


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a missing field": ({"amount": None}, "amount: missing"),
    "a missing key": ({"loan_id": None}, "loan_id: missing"),
    "a null where none may be": ({"amount": None, "amount.null": np.array([[True]])}, "amount: null"),
    "NaN": ({"amount": np.array([[np.nan]])}, "amount: finite"),
    "NaN in a nullable field": ({"income": np.array([[np.nan]])}, "income: finite"),
    "infinity": ({"income": np.array([[np.inf]])}, "income: finite"),
    "a number beyond float32": ({"income": np.array([[1e300]])}, "income: float32"),
    "a number out of range": ({"amount": np.array([[-0.5]])}, "amount: range"),
    "an unknown category": ({"grade": np.array([["Z"]], object)}, "grade: unknown"),
    "a huge text": ({"grade": np.array([["x" * 2_000_000]], object)}, "grade: "),
    "bytes that are no UTF-8": ({"grade": np.array([[b"\xff\xfe"]], object)}, "grade: "),
    "a time in the future": ({"applied_at": np.array([[4_102_444_800_000_000]])}, "applied_at: future"),
    "text for a number": ({"amount": np.array([["1.5"]], object)}, "amount"),
    "a number of the wrong type": ({"amount": np.array([[1]])}, "amount"),
    "an undeclared field": ({"applicant_group": np.array([["x"]], object)}, "applicant_group"),
    "another number of rows": ({"amount": np.array([[1.0], [2.0]])}, ""),
    "a row too wide": ({"amount": np.array([[1.0, 2.0]])}, "amount"),
    "a shape without rows": ({"amount": np.array([1.0])}, "amount"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_is_refused_and_says_what_is_wrong_but_never_the_value(router: RunningRouter, name: str):
    changes, said = BAD[name]
    before = len(router.root.decisions())
    with pytest.raises(ContractViolation) as error:
        router.ask(request(), **changes)
    assert said in error.value.what
    for secret in ("1e+300", "-0.5", "'Z'", "xxxx", "4102444800"):
        assert secret not in str(error.value)
    assert len(router.root.decisions()) == before
    assert router.ask()["version"][0, 0] == 1


def test_a_refusal_is_recorded_by_field_and_rule_without_the_value(router: RunningRouter):
    with pytest.raises(ContractViolation):
        router.ask(request(), amount=np.array([[-123456.75]]))
    last = [one for one in router.root.logged() if isinstance(one, LoggedRefusal)][-1]
    assert [(one.field, one.rule) for one in last.refusals] == [("amount", "range")]
    assert b"123456" not in repr(last).encode()


def test_all_rows_of_a_request_are_decided_or_none(router: RunningRouter):
    before = len(router.root.decisions())
    two = {name: np.concatenate([values, values]) for name, values in request().items()}
    with pytest.raises(ContractViolation, match="amount: range"):
        router.ask(two, amount=np.array([[1.0], [-1.0]]))
    assert len(router.root.decisions()) == before


def test_the_version_behind_the_router_answers_nobody_else(router: RunningRouter):
    for version in (1, 2):
        with pytest.raises(ContractViolation, match="versions answer their router only"):
            router.client.infer(f"{MODEL}.v{version}", {"features": np.zeros((1, 5), np.float32)})


# -- over HTTP, as any client sends it ------------------------------------------------------------------------------


def post(router: RunningRouter, body: bytes, headers: dict[str, str] | None = None, path: str | None = None):
    connection = http.client.HTTPConnection("127.0.0.1", router.server.boot.rest_port, timeout=20)
    try:
        connection.request("POST", path or f"/v2/models/{MODEL}/infer", body=body, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def is_refused(router: RunningRouter, status: int, raw: bytes) -> bool:
    """Refused as the client's fault. Without an edge Triton's own reader says 500 to a body that it cannot read."""
    if 400 <= status < 500:
        return True
    return router.server.boot.edge_port == 0 and status == 500 and raw.startswith(_UNREADABLE)


def as_json(tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    kinds = {"float64": "FP64", "int64": "INT64", "bool": "BOOL", "object": "BYTES"}
    return {
        "inputs": [
            {"name": name, "datatype": kinds[values.dtype.name], "shape": list(values.shape), "data": values.tolist()}
            for name, values in tensors.items()
        ]
    }


def test_plain_json_over_http_gets_the_same_answer(router: RunningRouter):
    status, raw = post(router, json.dumps(as_json(request())).encode())
    assert status == 200
    outputs = {one["name"]: one["data"] for one in json.loads(raw)["outputs"]}
    same = router.ask()
    assert np.float32(outputs["score"][0]) == same["score"][0, 0]
    assert outputs["decision"] == [same["decision"][0, 0]]
    assert UUID7.fullmatch(outputs["prediction_id"][0])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"inputs": 7}',
        b'{"inputs": []}',
        b'{"inputs": [{"name": "amount"}]}',
        b'{"inputs": [{"name": "amount", "datatype": "FP64", "shape": [1, 1], "data": ["a lot"]}]}',
        b'{"inputs": [{"name": "amount", "datatype": "FP64", "shape": [-1, 1], "data": [1]}]}',
        b'{"inputs": [{"name": "amount", "datatype": "FP64", "shape": [1, 1000], "data": [1]}]}',
        b'{"inputs": [{"name": "amount", "datatype": "FP63", "shape": [1, 1], "data": [1]}]}',
        b'{"inputs": [{"name": "amount", "datatype": "FP64", "shape": [1, 1], "data": [NaN]}]}',
        b"\x00" * 4096,
        b'{"inputs": [' + b"[" * 10_000,
    ],
)  # fmt: skip
def test_a_malformed_body_is_refused_and_harms_nothing(router: RunningRouter, body: bytes):
    before = len(router.root.decisions())
    assert is_refused(router, *post(router, body))
    assert len(router.root.decisions()) == before
    assert router.ask()["version"][0, 0] == 1


def test_a_wrong_length_of_the_json_part_is_refused(router: RunningRouter):
    for length in ("0", "-1", "5", "999999999", "many"):
        headers = {"Inference-Header-Content-Length": length}
        assert is_refused(router, *post(router, b'{"inputs": []}', headers)), length


_NAMES = st.sampled_from([*request(), "applied_at", "income.null", "amount.null", "nobody", "", "features", "row"])
_KINDS = st.sampled_from(["FP64", "FP32", "INT64", "INT32", "BYTES", "BOOL", "UINT8", "FP16"])
_VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=40), st.lists(st.integers(), max_size=3),
)  # fmt: skip
_TENSOR = st.fixed_dictionaries(
    {
        "name": _NAMES,
        "datatype": _KINDS,
        "shape": st.lists(st.integers(-2, 5), max_size=3),
        "data": st.lists(_VALUES, max_size=5),
    }
)


_ABSURD_SHAPE = st.lists(st.one_of(st.integers(-2, 2), st.integers(10**5, 2**70)), min_size=1, max_size=12)
_ABSURD_MEMBER = st.sampled_from(
    [
        {"outputs": [{"name": "decision", "parameters": {"classification": 3}}]},
        {"outputs": [{"name": "score", "parameters": {"classification": -1}}]},
        {"outputs": 7},
        {"parameters": {"timeout": -1}},
        {"parameters": [1]},
        {"id": 7},
        {"inputs": "none"},
    ]
)


@st.composite
def _requests(draw: Any, *, absurd: bool) -> bytes:
    """From nearly good to noise: a good request with tensors replaced, taken away and added; sometimes bytes changed.

    ``absurd``: also shapes, nesting and members that end a Triton that is asked without an edge.
    """
    document = as_json(request(draw(st.integers(-(2**63), 2**63 - 1)), amount=draw(st.floats(0, 1e30))))
    inputs = [one for one in document["inputs"] if draw(st.integers(0, 9))]
    inputs += draw(st.lists(_TENSOR, max_size=2))
    document["inputs"] = inputs
    if absurd and inputs and not draw(st.integers(0, 2)):
        draw(st.sampled_from(inputs))["shape"] = draw(_ABSURD_SHAPE)
    if absurd and not draw(st.integers(0, 5)):
        document |= draw(_ABSURD_MEMBER)
    raw = json.dumps(document).encode()
    if absurd and not draw(st.integers(0, 9)):
        deep = draw(st.sampled_from([20, 1_000, 200_000]))
        raw = raw[:-1] + b', "more": ' + b"[" * deep + b"]" * deep + b"}"
    if not draw(st.integers(0, 4)):
        place = draw(st.integers(0, len(raw) - 1))
        raw = raw[:place] + draw(st.binary(max_size=4)) + raw[place + draw(st.integers(0, 3)) :]
    return raw


def test_two_thousand_fuzzed_requests_crash_nothing_and_get_no_wrong_answer(router: RunningRouter):
    pid = router.server.boot.pid
    seen: dict[int, int] = {}

    @settings(
        max_examples=1000, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck), print_blob=False,
    )  # fmt: skip
    @given(_requests(absurd=router.server.boot.edge_port > 0))
    def fuzz(body: bytes) -> None:
        status, raw = post(router, body)
        seen[status] = seen.get(status, 0) + 1
        assert status == 200 or is_refused(router, status, raw), raw
        if status == 200:
            _is_right(router, body, raw)

    fuzz()  # a thousand for each executor
    assert sum(seen.values()) >= 1000
    assert seen.get(200, 0) > 25  # it was not all noise
    assert seen.get(400, 0) > 50
    assert router.server.alive
    assert router.server.boot.pid == pid


def _is_right(router: RunningRouter, body: bytes, raw: bytes) -> None:
    """An answered request is a good one: what it said, scored as batch would."""
    outputs = {one["name"]: one["data"] for one in json.loads(raw)["outputs"]}
    given = {one["name"]: one["data"] for one in json.loads(body)["inputs"]}
    flat = {name: np.array(values, object).reshape(-1).tolist() for name, values in given.items()}
    loan: dict[str, Any] = {
        name: flat.get(name, [None])[0] for name in ("loan_id", "amount", "income", "term", "grade")
    }
    for name in loan:
        if flat.get(f"{name}.null", [False])[0]:
            loan[name] = None
    assert loan["amount"] is not None
    loan["grade"] = loan["grade"] or "B"
    (score,), (decision,), _ = reference(router, [loan])
    assert np.float32(outputs["score"][0]) == score
    assert outputs["decision"] == [decision]


def test_binary_tensors_whose_bytes_are_too_few_are_the_clients_fault(router: RunningRouter):
    tensors = request()
    tensors.pop("grade")
    inputs = [
        {
            "name": name, "datatype": "FP64" if values.dtype == float else "INT64", "shape": [1, 1],
            "parameters": {"binary_data_size": 8},
        }
        for name, values in tensors.items()
    ]  # fmt: skip
    header = json.dumps({"inputs": inputs}).encode()
    body = header + struct.pack("<q", 1)
    status, _ = post(router, body, {"Inference-Header-Content-Length": str(len(header))})
    assert status == 400


# -- the same over gRPC ---------------------------------------------------------------------------------------------

_CLIENTS_FAULT = {"INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS"}


@st.composite
def _messages(draw: Any) -> Any:
    """A good message with tensors replaced, taken away, added, and with shapes as large as they can be said."""
    from tritonclient.grpc import service_pb2

    message = service_pb2.ModelInferRequest(model_name=MODEL)
    for one in as_json(request(draw(st.integers(0, 2**40)), amount=draw(st.floats(0, 1e30))))["inputs"]:
        if draw(st.integers(0, 9)):
            value = one["data"][0][0]
            raw = {"FP64": lambda v: struct.pack("<d", v), "INT64": lambda v: struct.pack("<q", v)}.get(one["datatype"])
            content = raw(value) if raw else struct.pack("<I", len(value)) + value.encode()
            _add(message, one["name"], one["datatype"], [1, 1], content)
    for _ in range(draw(st.integers(0, 2))):
        shape = draw(st.lists(st.one_of(st.integers(-2, 5), st.integers(2**30, 2**62)), max_size=3))
        _add(message, draw(_NAMES), draw(_KINDS), shape, draw(st.binary(max_size=40)))
    return message


def _add(message: Any, name: str, datatype: str, shape: list[int], content: bytes) -> None:
    message.inputs.add(name=name, datatype=datatype, shape=shape)
    message.raw_input_contents.append(content)


def test_a_thousand_fuzzed_messages_over_grpc_are_answered_or_refused_as_the_clients_fault(router: RunningRouter):
    import grpc
    from tritonclient.grpc import service_pb2_grpc

    codes: dict[str, int] = {}
    with grpc.insecure_channel(f"127.0.0.1:{router.server.boot.grpc_port}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

        @settings(
            max_examples=1000, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
        )
        @given(_messages())
        def fuzz(message: Any) -> None:
            try:
                stub.ModelInfer(message, timeout=20)
            except grpc.RpcError as error:
                code = error.code().name
            else:
                code = "OK"
            codes[code] = codes.get(code, 0) + 1
            assert code == "OK" or code in _CLIENTS_FAULT

        fuzz()
    assert codes["OK"] > 50
    assert codes["INVALID_ARGUMENT"] > 50
    assert router.server.alive


# -- metrics, and one question by hand ------------------------------------------------------------------------------


def metrics(router: RunningRouter) -> dict[str, float]:
    connection = http.client.HTTPConnection("127.0.0.1", router.server.boot.metrics_port, timeout=10)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line.startswith("ml_platform")}


def eventually(found: Any, seconds: float = 10.0) -> Any:
    import time

    deadline = time.monotonic() + seconds
    while not (value := found()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return value


def test_what_the_router_counts_is_on_tritons_metrics_endpoint(router: RunningRouter):
    name = f'ml_platform_router_rows_total{{model="{MODEL}"}}'
    before = metrics(router).get(name, 0.0)
    for _ in range(3):
        router.ask()
    with pytest.raises(ContractViolation):
        router.ask(request(), amount=np.array([[-1.0]]))

    def current() -> bool:
        router.ask()  # the figures come with a batch, at most once a second
        return metrics(router).get(name, 0.0) >= before + 3

    assert eventually(current)
    found = metrics(router)
    assert found[f'ml_platform_router_epoch{{model="{MODEL}"}}'] == 1
    assert any(key.startswith("ml_platform_router_decided_total") and 'version="1"' in key for key in found)
    assert any(key.startswith("ml_platform_router_refused_total") and 'rule="range"' in key for key in found)
    assert found[f'ml_platform_router_route_refused{{model="{MODEL}"}}'] == 0


def test_one_question_by_hand(router: RunningRouter):
    values = {"loan_id": "7", "amount": "1.5", "income": None, "term": "36", "grade": "A", "applied_at": "2020-01-31"}
    answer = predict(router.root.folder, MODEL, values)
    assert set(answer) == {"score", "decision", "version", "prediction_id", "reason_codes", "epoch"}
    assert answer["version"] == 1
    assert bool(answer["reason_codes"]) == (answer["decision"] == "declined")
    record = router.root.decisions()[-1]
    assert record.section.request_time_us == 1_580_428_800_000_000
    for changes, field in (
        ({"amount": "a lot"}, "amount"),
        ({"nobody": 1}, "nobody"),
        ({"income.null": True}, "income.null"),
        ({"loan_id": "12.5"}, "loan_id"),
        ({"loan_id": 2**64}, "loan_id"),
    ):
        with pytest.raises(ContractViolation) as error:
            predict(router.root.folder, MODEL, values | changes)
        assert error.value.field == field
        assert "a lot" not in str(error.value)


def test_a_client_gets_the_outputs_it_asks_for_and_no_others(router: RunningRouter):
    loan = loans(1, seed=9)[0]
    whole = router.ask(request(**loan))
    before = len(router.root.decisions())
    for wanted in (["score"], ["prediction_id", "decision"], ["epoch", "reason_codes", "version"]):
        found = ask_for(router, loan, wanted)
        assert set(found) == set(wanted)
        for name in set(wanted) - {"prediction_id"}:
            assert found[name] == whole[name].reshape(-1).tolist()
    assert len(router.root.decisions()) == before + 3  # recorded in full, whatever is asked for
    assert all(one.section.reasons is not None for one in router.root.decisions())


def test_answers_that_share_tensors_stay_right_in_any_company(router: RunningRouter):
    rows = loans(150, seed=11)
    wanted = ["version", "decision", "reason_codes", "epoch"]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda loan: ask_for(router, loan, wanted), rows * 4))
    _, decisions, reasons = reference(router, rows)
    assert [answer["decision"] for answer in answers] == [[one] for one in decisions * 4]
    assert [tuple(filter(None, answer["reason_codes"])) for answer in answers] == [tuple(one) for one in reasons * 4]
    assert {(*answer["version"], *answer["epoch"]) for answer in answers} == {(1, 1)}


def ask_for(router: RunningRouter, loan: dict[str, Any], wanted: list[str]) -> dict[str, list[Any]]:
    """Some outputs, by JSON."""
    kinds = {"float64": "FP64", "int64": "INT64", "object": "BYTES"}
    inputs = [
        {"name": name, "datatype": kinds[one.dtype.name], "shape": list(one.shape), "data": one.reshape(-1).tolist()}
        for name, one in request(**loan).items()
    ]
    body = json.dumps({"inputs": inputs, "outputs": [{"name": name} for name in wanted]})
    connection = http.client.HTTPConnection("127.0.0.1", router.server.boot.rest_port, timeout=20)
    try:
        connection.request("POST", f"/v2/models/{MODEL}/infer", body)
        answered = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return {one["name"]: one["data"] for one in answered["outputs"]}
