"""``[storage]``: what may be written there, what the libraries make of it, and where credentials come from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ml_platform.core.delta import Lake
from ml_platform.core.errors import SettingsError, StorageFailed
from ml_platform.core.objects import ObjectStore
from ml_platform.core.settings import Settings, load_settings, settings_text
from ml_platform.core.storage import (
    StorageSettings,
    delta_options,
    obstore_arguments,
    s3_endpoint,
    s3_region,
    uses_profile_files,
)
from tests.conftest import Bucket
from tests.services.s3 import ACCESS_KEY, SECRET_KEY


def load(folder: Path, **given: object) -> Settings:
    path = folder / "settings.toml"
    path.write_text(settings_text({"kind": "wall", **given}))
    return load_settings(path)


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    given = {"endpoint": "https://s3.internal:9000", "region": "eu-1", "retries": 0, "timeout_seconds": 7}
    settings = load(tmp_path, lake="s3://b/lake/", unavailable={"group": 'Not "collected": ünïcode 🏦.'}, storage=given)
    assert settings.storage == StorageSettings(**given)
    assert settings.lake == "s3://b/lake"
    assert settings.unavailable == {"group": 'Not "collected": ünïcode 🏦.'}


@pytest.mark.parametrize(
    "name",
    ["access_key_id", "secret_access_key", "session_token", "account_key", "sas", "service_account_key", "password"],
)
def test_a_secret_in_the_file_is_refused_with_the_reason_and_not_repeated(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match=rf"storage\.{name}: A settings file is copied and shown") as caught:
        load(tmp_path, storage={name: "hush-hush-42"})
    assert "hush" not in str(caught.value)
    assert "environment" in caught.value.next_step


@pytest.mark.parametrize(
    "given",
    [
        {"lake": "s3://key:hush-hush-42@bucket/lake"},
        {"lake": "s3://hush-hush-42@bucket/lake"},
        {"objects": "az://container/p?sv=2024&sig=hush-hush-42"},
        {"storage": {"endpoint": "https://key:hush-hush-42@s3.internal"}},
        {"storage": {"endpoint": "https://s3.internal?token=hush-hush-42"}},
    ],
)
def test_a_secret_inside_a_url_is_refused_and_not_repeated(tmp_path: Path, given: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="a secret does not belong in it") as caught:
        load(tmp_path, **given)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"storage": {"colour": 1}}, "storage.colour: Unknown"),
        ({"storage": {"region": 3}}, "storage.region"),
        ({"storage": {"retries": -1}}, "storage.retries.*0 to 3600"),
        ({"storage": {"retries": True}}, "storage.retries"),
        ({"storage": {"timeout_seconds": 0}}, "storage.timeout_seconds.*1 to 3600"),
        ({"storage": {"timeout_seconds": 3_601}}, "storage.timeout_seconds"),
        ({"storage": {"allow_http": "yes"}}, "storage.allow_http"),
        ({"storage": {"endpoint": "s3.internal"}}, "storage.endpoint: This is no address"),
        ({"storage": {"endpoint": "http://s3.internal"}}, "storage.endpoint: The address has no TLS"),
        ({"storage": "s3"}, "storage: .*table"),
        ({"lake": "ftp://host/lake"}, "lake: This is no URL of a store"),
        ({"objects": "s3:///store"}, "objects: This is no URL of a store"),
    ],
)
def test_what_cannot_be_used_names_setting_and_next_step(tmp_path: Path, given: dict[str, object], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        load(tmp_path, **given)


def test_bounds_are_allowed_and_http_where_it_is_said(tmp_path: Path) -> None:
    given = {"endpoint": "http://s3", "allow_http": True, "retries": 0, "timeout_seconds": 1, "retry_seconds": 3_600}
    assert load(tmp_path, storage=given).storage == StorageSettings(**given)


# -- Azure and Google Cloud: as far as it goes without a server ------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "storage", "says"),
    [
        ("s3://b/p", StorageSettings(), 'S3Store(bucket="b", prefix="p")'),
        ("s3a://b/p", StorageSettings(), 'S3Store(bucket="b", prefix="p")'),
        ("gs://b/p", StorageSettings(), 'GCSStore(bucket="b", prefix="p")'),
        (
            "az://c/p",
            StorageSettings(account="acct"),
            'AzureStore(container_name="c", account_name="acct", prefix="p")',
        ),
        (
            "abfss://c@acct.dfs.core.windows.net/p",
            StorageSettings(),
            'AzureStore(container_name="c", account_name="acct", prefix="p")',
        ),
    ],
)
def test_a_url_opens_the_store_of_its_cloud(url: str, storage: StorageSettings, says: str) -> None:
    assert repr(ObjectStore(url, storage)._store) == says


def test_a_container_without_its_account_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(SettingsError, match="storage: The store cannot be used as it is set"):
        ObjectStore("az://container/p").exists("a")


@pytest.mark.parametrize("url", ["gs://bucket/p", "az://container/p"])
def test_a_cloud_that_is_not_there_is_said_by_objects_and_tables(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing answers at the address: credentials are from the environment, and the request leaves for the endpoint."""
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "aHVzaC1odXNoLTQy")
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    storage = StorageSettings("http://127.0.0.1:9/acct", account="acct", allow_http=True, retries=0, timeout_seconds=2)
    if url.startswith("gs:"):
        # Its libraries read no endpoint setting for tables: only objects are asked.
        acts = [lambda: ObjectStore(url, StorageSettings(retries=0, timeout_seconds=1, retry_seconds=1)).read("a")]
    else:
        acts = [lambda: ObjectStore(url, storage).read("a"), lambda: Lake(url, storage).table("t")]
    for act in acts:
        with pytest.raises(StorageFailed) as caught:
            act()
        assert "aHVzaC1odXNoLTQy" not in str(caught.value)


def test_options_of_one_cloud_are_not_given_to_another() -> None:
    storage = StorageSettings(region="eu-1", account="acct", endpoint="https://e", retries=3)
    s3, azure = delta_options("s3://b", storage), delta_options("az://b", storage)
    assert s3 is not None
    assert azure is not None
    assert (s3["region"], s3["conditional_put"], s3["max_retries"]) == ("eu-1", "etag", "3")
    assert "account_name" not in s3
    assert azure["account_name"] == "acct"
    assert {"region", "conditional_put"} & set(azure) == set()
    assert obstore_arguments("az://b", storage)["config"] == {"endpoint": "https://e", "account_name": "acct"}
    assert obstore_arguments("s3://b", storage)["config"] == {"endpoint": "https://e", "region": "eu-1"}
    assert delta_options("/a/folder", storage) is None


# -- credentials -----------------------------------------------------------------------------------------------------


def test_the_environment_says_where_s3_is_unless_the_settings_do() -> None:
    environ = {"AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_S3": "http://b", "AWS_DEFAULT_REGION": "r"}
    assert (s3_endpoint(StorageSettings(), environ), s3_region(StorageSettings(), environ)) == ("http://b", "r")
    said = StorageSettings(endpoint="https://c", region="s")
    assert (s3_endpoint(said, environ), s3_region(said, environ)) == ("https://c", "s")
    assert (s3_endpoint(StorageSettings(), {}), s3_region(StorageSettings(), {})) == (None, None)


def test_variables_come_before_profile_files(tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text("[default]\n")
    home = {"HOME": str(tmp_path)}
    assert uses_profile_files("s3://b", home)
    assert not uses_profile_files("s3://b", {**home, "AWS_ACCESS_KEY_ID": "x"})
    assert not uses_profile_files("gs://b", home)
    assert not uses_profile_files("s3://b", {"HOME": str(tmp_path / "nobody")})
    assert uses_profile_files("s3://b", {"HOME": "/nobody", "AWS_CONFIG_FILE": str(tmp_path / ".aws" / "credentials")})


USE_BOTH = """
import sys, json, pyarrow as pa
from ml_platform.core.delta import Lake
from ml_platform.core.objects import ObjectStore
from ml_platform.core.storage import StorageSettings
url, storage = sys.argv[1], StorageSettings(**json.loads(sys.argv[2]))
ObjectStore(url + "/store", storage).put(b"x")
lake = Lake(url + "/lake", storage)
lake.append("t", pa.table({"a": [1]}))
print(lake.read("t").num_rows)
"""


def run_with(bucket: Bucket, **environ: str) -> subprocess.CompletedProcess[str]:
    import json

    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    storage = {**bucket.server.storage, "retries": 0}
    command = [sys.executable, "-c", USE_BOTH, bucket.url, json.dumps(storage)]
    return subprocess.run(command, env={**kept, **environ}, capture_output=True, text=True, check=False, timeout=120)


def test_all_three_libraries_take_credentials_from_a_profile_file(bucket: Bucket, tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text(
        "[default]\naws_access_key_id = nobody\naws_secret_access_key = nothing\n"
        f"[lender]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    )
    said = {"AWS_SHARED_CREDENTIALS_FILE": str(file), "AWS_CONFIG_FILE": str(tmp_path / "none")}
    done = run_with(bucket, AWS_PROFILE="lender", **said)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr[-2000:]
    denied = run_with(bucket, **said)
    assert "StorageFailed: Writing objects/sha256/" in denied.stderr
    assert "(access is denied)" in denied.stderr
    absent = run_with(bucket, AWS_PROFILE="nobody", **said)
    assert "SettingsError: AWS_PROFILE: The profile files hold no credentials" in absent.stderr


def test_a_bucket_that_is_not_there_is_said(bucket: Bucket) -> None:
    storage = StorageSettings(**bucket.server.storage)
    store = ObjectStore("s3://no-such-bucket-here/p", storage)
    for act in (lambda: store.create("a", b"1"), lambda: store.read("a"), lambda: store.list("a")):
        with pytest.raises(StorageFailed, match="there is no such bucket"):
            act()
