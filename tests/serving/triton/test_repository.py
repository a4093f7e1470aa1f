from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ml_platform.core.errors import DeclarationError
from ml_platform.serving.declaration import Serving
from ml_platform.serving.triton.repository import (
    Tensor,
    router_config,
    router_files,
    router_inputs,
    router_model_name,
    router_outputs,
    version_config,
    version_files,
    version_model_name,
    write_model,
)
from tests.serving.support import CONTRACT

ARTIFACT = "sha256:" + "ab" * 32
SERVING = Serving(executor="triton", max_batch=32, queue_delay_us=200, instances=2)


def parsed(text: str):
    """The configuration as Triton's own message."""
    protobuf = pytest.importorskip("google.protobuf.text_format", reason="protobuf is not installed (extra: triton)")
    messages = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="tritonclient is not installed")
    return protobuf.Parse(text, messages.ModelConfig())


def names(tensors) -> dict[str, str]:
    return {one.name: one.data_type for one in tensors}


def kinds(message) -> dict[str, str]:
    enum = message.DESCRIPTOR.fields_by_name["input"].message_type.fields_by_name["data_type"].enum_type
    return {one.name: enum.values_by_number[one.data_type].name for one in message.input}


def test_a_router_takes_keys_time_and_request_fields_each_with_its_null_but_nothing_stored_or_derived():
    taken = {one.name: one.datatype for one in router_inputs(CONTRACT)}
    assert taken == {
        "loan_id": "INT64", "applied_at": "INT64",
        "amount": "FP64", "amount.null": "BOOL", "income": "FP64", "income.null": "BOOL",
        "term": "INT64", "term.null": "BOOL", "grade": "BYTES", "grade.null": "BOOL",
    }  # fmt: skip
    assert all(one.optional and one.dims == (1,) for one in router_inputs(CONTRACT))


def test_a_router_answers_with_everything_by_which_a_decision_is_found_again():
    given = {one.name: (one.datatype, one.dims) for one in router_outputs(CONTRACT)}
    assert given == {
        "score": ("FP32", (1,)), "decision": ("BYTES", (1,)), "version": ("INT64", (1,)),
        "prediction_id": ("BYTES", (1,)), "reason_codes": ("BYTES", (4,)), "epoch": ("INT64", (1,)),
    }  # fmt: skip


def test_triton_reads_a_routers_configuration_as_declared():
    message = parsed(router_config("credit_risk", 1, router_inputs(CONTRACT), CONTRACT, SERVING))
    assert (message.name, message.backend, message.max_batch_size) == ("credit_risk", "python", 32)
    assert kinds(message)["grade"] == "TYPE_STRING"
    assert kinds(message)["amount.null"] == "TYPE_BOOL"
    assert all(one.optional for one in message.input)
    assert kinds(message).keys() - {one.name for one in router_inputs(CONTRACT)} == {"row"}
    assert kinds(message)["row"] == "TYPE_STRING"
    assert message.dynamic_batching.max_queue_delay_microseconds == 200
    assert [group.count for group in message.instance_group] == [1]  # one log, one process
    assert Serving.from_json(__import__("json").loads(message.parameters["serving"].string_value)) == SERVING


def test_a_router_of_a_field_that_is_named_row_takes_no_whole_rows():
    inputs = (*router_inputs(CONTRACT), Tensor("row", "FP64", optional=True))
    message = parsed(router_config("credit_risk", 1, inputs, CONTRACT, SERVING))
    assert [one.name for one in message.input].count("row") == 1
    assert kinds(message)["row"] == "TYPE_FP64"


def test_a_version_takes_the_whole_row_or_every_feature_by_name():
    message = parsed(version_config("credit_risk", 7, ARTIFACT, CONTRACT, SERVING))
    assert message.name == version_model_name("credit_risk", 7) == "credit_risk.v7"
    assert {one.name: list(one.dims) for one in message.input} == {"features": [7], **{n: [1] for n in CONTRACT.names}}
    assert set(kinds(message).values()) == {"TYPE_FP32"}
    assert all(one.optional for one in message.input)
    assert [group.count for group in message.instance_group] == [2]
    assert message.parameters["artifact"].string_value == ARTIFACT


def test_the_repository_of_production_images_is_the_same_with_the_onnx_itself(tmp_path: Path, artifact_parts):
    message = parsed(version_config("credit_risk", 7, ARTIFACT, CONTRACT, SERVING, backend="onnxruntime"))
    assert message.backend == "onnxruntime"
    import onnx

    graph = onnx.load_from_string(artifact_parts["model.onnx"]).graph
    assert [(one.name, list(one.dims)) for one in message.input] == [
        (one.name, [one.type.tensor_type.shape.dim[1].dim_value]) for one in graph.input
    ]
    assert [one.name for one in message.output] == [one.name for one in graph.output]
    assert not any(one.optional for one in message.input)
    files = version_files(backend="onnxruntime", onnx=artifact_parts["model.onnx"])
    assert files == {"model.onnx": artifact_parts["model.onnx"]}
    with pytest.raises(DeclarationError, match="ONNX"):
        version_files(backend="onnxruntime")


def test_a_feature_may_not_have_the_name_of_the_whole_row():
    contract = replace(CONTRACT, fields=(replace(CONTRACT.fields[0], name="features"), *CONTRACT.fields[1:]))
    with pytest.raises(DeclarationError, match="features"):
        version_config("credit_risk", 7, ARTIFACT, contract, SERVING)


def test_no_file_of_the_repository_holds_a_path_of_the_host_or_a_secret(tmp_path: Path):
    repository = tmp_path / "triton"
    repository.mkdir()
    write_model(
        repository / "credit_risk",
        router_config("credit_risk", 1, router_inputs(CONTRACT), CONTRACT, SERVING),
        router_files(),
    )
    write_model(
        repository / "credit_risk.v1", version_config("credit_risk", 1, ARTIFACT, CONTRACT, SERVING), version_files()
    )
    files = sorted(path.relative_to(repository).as_posix() for path in repository.rglob("*") if path.is_file())
    assert files == [
        "credit_risk.v1/1/model.py", "credit_risk.v1/config.pbtxt", "credit_risk/1/model.py", "credit_risk/config.pbtxt",
    ]  # fmt: skip
    for name in files:
        text = (repository / name).read_text()
        assert str(tmp_path) not in text
        assert not any(line.lstrip().startswith(("/", '"/')) for line in text.splitlines())


def test_writing_a_model_again_replaces_it_whole(tmp_path: Path):
    write_model(tmp_path / "one", "name: 'a'", {"model.py": b"first", "more.bin": b"x"})
    write_model(tmp_path / "one", "name: 'b'", {"model.py": b"second"})
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["1", "config.pbtxt", "model.py", "one"]
    assert (tmp_path / "one" / "1" / "model.py").read_bytes() == b"second"


def test_the_first_router_has_the_models_name_and_later_generations_their_number():
    assert [router_model_name("credit_risk", number) for number in (1, 2)] == ["credit_risk", "credit_risk.g2"]
    assert Tensor("a", "FP64") == Tensor("a", "FP64", (1,), optional=False)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"executor": "gpu"}, "executor"),
        ({"max_batch": 0}, "max_batch"),
        ({"max_batch": 1025}, "max_batch"),
        ({"max_batch": True}, "max_batch"),
        ({"queue_delay_us": -1}, "queue_delay_us"),
        ({"queue_delay_us": 1_000_001}, "queue_delay_us"),
        ({"instances": 0}, "instances"),
        ({"instances": 65}, "instances"),
    ],
)
def test_an_impossible_declaration_names_its_field(changes, field):
    with pytest.raises(DeclarationError) as error:
        Serving(**changes)
    assert error.value.field == field


def test_the_ends_of_the_ranges_are_possible_and_a_declaration_survives_its_document():
    for serving in (Serving(max_batch=1, queue_delay_us=0, instances=1), Serving("triton", 1024, 1_000_000, 64)):
        assert Serving.from_json(serving.to_json()) == serving
    with pytest.raises(DeclarationError, match="speed"):
        Serving.from_json({"speed": 1})


def test_how_a_model_is_served_is_not_in_its_digest():
    from assets.credit_risk import credit_risk

    assert replace(credit_risk, serving=SERVING).digest == credit_risk.digest
