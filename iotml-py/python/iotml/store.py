"""Where models are kept: a folder, a bucket, or memory; versions that never change, verified when they are fetched."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iotml._iotml import StoreClient
from iotml.manifest import Manifest
from iotml.pipeline import read_document
from iotml.times import milliseconds, utc

if TYPE_CHECKING:
    from typing_extensions import Self

    from iotml.plugins import Plugins


@dataclass(frozen=True)
class StoredModel:
    """A version that is in a store, as `ModelStore.publish` gives it and `ModelTopic.announce` takes it.

    `uri` is its address, `sha256` the digest of the ONNX file as 64 hexadecimal digits; `is_new` says whether this call
    put it there, or it was there with the same content.
    """

    name: str
    version: str
    uri: str
    sha256: str
    is_new: bool


@dataclass(frozen=True)
class ListedModel:
    """A version that a store lists.

    `published` is when, in UTC by the store's clock; `n_bytes` is the size of the ONNX file, None if it is missing;
    `is_signed` says that a signature is there, which was not looked at.
    """

    name: str
    version: str
    uri: str
    published: datetime
    n_bytes: int | None
    is_signed: bool


@dataclass(frozen=True)
class FetchedModel:
    """A version as it was published: `onnx` are the very bytes that were verified, `sha256` is their digest."""

    name: str
    version: str
    uri: str
    sha256: str
    onnx: bytes = field(repr=False)
    manifest: Manifest = field(repr=False)


class ModelStore:
    """A store of models: publishes versions, lists, and fetches them.

    - `url`: `"file:///srv/models"` or a path, `"s3://bucket/prefix"`, `"gs://..."`, `"az://..."`, or `"memory://name"` of
      this process;
    - `properties`: what a bucket's client is to know, such as `{"aws_endpoint": "https://host", "aws_region": "eu-1"}`.
      Credentials come from here or from the environment (`AWS_*`, `GOOGLE_*`, `AZURE_*`);
    - `connect_timeout`, `request_timeout`, `retry_timeout`: seconds: of a connection, of one request with the transfer of
      a model, and after which a request that failed, `max_retries` times at most, is not made again;
    - `cache`: a folder in which fetched models are kept, of `cache_bytes` at most; several processes may share it;
    - `signing_key`: the file of a private key, ed25519 as PEM or base64, by which what is published is signed;
    - `trusted_keys`: files of public keys, by one of which a signature must be; with `require_signature` there must be
      one;
    - `max_bytes`: how large an ONNX file may be.

    None leaves an option at its default. A store may be used by many threads, and is safe to pickle; the pickle holds the
    options, credentials too. A process that was forked off must open its own.

    Raises `ConfigError` if there can be no such store; nothing is asked of it before the first call. Calls raise
    `StoreError` if it cannot be asked or has no such version, and `ModelError` for a model that is refused: one that no
    worker would load, or that is damaged, replaced or not signed as wanted. Ctrl-C breaks a call off; a version that was
    being published may be there then or not, and can be published again.

    >>> store = ModelStore("memory://docs")
    >>> published = store.publish("testdata/cars/cars-autoencoder.onnx", version="4")
    >>> published.uri, published.is_new
    ('memory://docs/cars/4', True)
    >>> [(model.name, model.version, model.n_bytes) for model in store.list()]
    [('cars', '4', 20002)]
    >>> store.manifest("cars", "4").kind
    'reconstruction'
    """

    def __init__(
        self,
        url: str | os.PathLike[str],
        *,
        properties: Mapping[str, str | int | float | bool] | None = None,
        connect_timeout: float | None = None,
        request_timeout: float | None = None,
        max_retries: int | None = None,
        retry_timeout: float | None = None,
        cache: str | os.PathLike[str] | None = None,
        cache_bytes: int | None = None,
        signing_key: str | os.PathLike[str] | None = None,
        trusted_keys: Sequence[str | os.PathLike[str]] | None = None,
        require_signature: bool | None = None,
        max_bytes: int | None = None,
    ) -> None:
        """Check the arguments; raises `ConfigError`. Nothing is connected yet."""
        options = {
            "properties": None if properties is None else dict(properties),
            "connect_timeout": _duration("connect_timeout", connect_timeout),
            "request_timeout": _duration("request_timeout", request_timeout),
            "max_retries": max_retries,
            "retry_timeout": _duration("retry_timeout", retry_timeout),
            "cache": None if cache is None else os.fspath(cache),
            "cache_bytes": cache_bytes,
            "signing_key": None if signing_key is None else os.fspath(signing_key),
            "trusted_keys": None if trusted_keys is None else [os.fspath(key) for key in trusted_keys],
            "require_signature": require_signature,
            "limits": None if max_bytes is None else {"max_bytes": max_bytes},
        }
        given = {name: value for name, value in options.items() if value is not None}
        self._open(StoreClient, os.fspath(url), json.dumps(given))

    def _open(self, opener: Callable[..., StoreClient], *source: Any) -> None:
        self._client = opener(*source)
        self._source = (opener, source)

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str], *, plugins: Plugins | None = None) -> Self:
        """Open the store that the scorer of a pipeline takes models from: `store` and `store_options` of its `follow`.

        Raises `ConfigError` if the document is wrong or names no store.
        """
        store = cls.__new__(cls)
        store._open(StoreClient.of_pipeline, read_document(path), os.fspath(path), plugins)
        return store

    @property
    def url(self) -> str:
        """Where it is, without a slash at the end."""
        return self._client.url

    def uri(self, name: str, version: str) -> str:
        """Give the address of a version, whether it exists or not; raises `ConfigError` if none can be called so."""
        return self._client.uri(name, version)

    def publish(
        self,
        model: str | os.PathLike[str] | bytes,
        *,
        name: str | None = None,
        version: str | None = None,
        manifest: Manifest | str | os.PathLike[str] | None = None,
        check: bool = True,
    ) -> StoredModel:
        """Put a model into the store, as a version that never changes. To publish the same again is no error.

        - `model`: the path of an ONNX file, or its bytes;
        - `name`, `version`: in the place of those in the manifest;
        - `manifest`: in the place of the one in the file or beside it; a `Manifest`, or the path of a JSON file;
        - `check`: whether it is loaded into an engine, to see that its golden rows come out.

        Raises `ModelError` if no worker would load it, `StoreError` if the version is taken by another content or the
        store does not answer.
        """
        onnx = model if isinstance(model, bytes) else os.fspath(model)
        text = manifest_text(manifest)
        return StoredModel(*self._client.publish(onnx, name=name, version=version, manifest=text, check=check))

    def list(self, name: str | None = None) -> Sequence[ListedModel]:
        """List all versions, or those of one model: by name, and of a model the oldest first."""
        listed = []
        for name_, version, uri, millis, n_bytes, is_signed in self._client.list(name):
            listed.append(ListedModel(name_, version, uri, utc(millis), n_bytes, is_signed))
        return listed

    def manifest(self, name: str, version: str) -> Manifest:
        """Read the manifest of a version, verified as by `fetch`; the model is not fetched."""
        return Manifest.from_json(self._client.manifest(name, version))

    def fetch(self, name: str, version: str, *, sha256: str | None = None) -> FetchedModel:
        """Fetch a version and verify it: its signature where one is looked at, its manifest, its digest.

        `sha256` is the digest that it must have, such as one that was announced. `iotml.Scorer(model.uri, store=store)`
        opens it.
        """
        onnx, found, manifest = self._client.fetch(name, version, sha256)
        return FetchedModel(name, version, self.uri(name, version), found, onnx, Manifest.from_json(manifest))

    def __repr__(self) -> str:
        """Say where it is; no secret is among it."""
        return f"ModelStore({self.url!r})"

    def __getstate__(self) -> tuple[str, tuple[Any, ...]]:
        """Say how to open it again."""
        opener, source = self._source
        return opener.__name__, source

    def __setstate__(self, state: tuple[str, tuple[Any, ...]]) -> None:
        """Open it again, in this process."""
        opener, source = state
        self._open(StoreClient if opener == "StoreClient" else StoreClient.of_pipeline, *source)


def manifest_text(manifest: Manifest | str | os.PathLike[str] | None) -> str | None:
    """Give a manifest, or the one in a JSON file, as the native module takes it."""
    if manifest is None or isinstance(manifest, Manifest):
        return None if manifest is None else manifest.to_json()
    return Manifest.read(Path(manifest)).to_json()


def _duration(name: str, seconds: float | None) -> str | None:
    return None if seconds is None else milliseconds(f"{name}:", seconds)
