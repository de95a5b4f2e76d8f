"""Files and models at `hf://` addresses: the Hugging Face Hub, or what HF_ENDPOINT names.

huggingface_hub says what there is (and finds the token); the bytes come through `web`, which resumes.
Everything is read at one commit, so that a push in between mixes nothing.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from huggingface_hub import HfApi, get_token, hf_hub_url
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError: httpx's or httpx2's, by version
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile

from fairlead.errors import ConfigError, DataError, FairleadError, NotFound, StorageError
from fairlead.formats.digests import PREFIX
from fairlead.storage.contract import Advance, check_key
from fairlead.storage.redaction import redact, redact_text
from fairlead.storage.web import download, inspect

DATASETS = "datasets"
# Of a model only what can be read without running it: never a pickle (.bin, .pt), never code.
WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")
# The folder's file says how a sentence encoder was trained to pool.
BESIDE_WEIGHTS = re.compile(r"[^/]+\.(json|txt|model|jinja)|1_Pooling/config\.json")
HOW = "write hf://datasets/<org>/<repo>/<path>[@rev] or hf://<org>/<model>[@rev]"


@dataclass(frozen=True)
class HubAddress:
    """A model, or a file or folder of a data set, at a revision."""

    kind: str
    """`model` or `dataset`."""
    repo: str
    """`<org>/<name>`."""
    path: str
    """File or folder in the repository; "" for a model."""
    revision: str | None
    """Branch, tag or commit; None: the default branch."""

    @classmethod
    def parse(cls, address: str) -> "HubAddress":
        """Read an `hf://` address. The revision may also stand behind the repository, as the Hub writes it."""
        body, _, revision = address.removeprefix("hf://").partition("@")
        if "/" in revision and body.count("/") == 2 and body.startswith(DATASETS + "/"):
            revision, _, path = revision.partition("/")
            body = f"{body}/{path}"
        kind, parts = (
            ("dataset", body.split("/")[1:]) if body.startswith(DATASETS + "/") else ("model", body.split("/"))
        )
        if len(parts) < 2 or (kind == "model" and len(parts) != 2) or (kind == "dataset" and len(parts) < 3):
            raise ConfigError(f"{address}: it names no model and no file of a data set; {HOW}")
        return cls(kind, "/".join(parts[:2]), "/".join(parts[2:]).strip("/"), unquote(revision) or None)


@dataclass(frozen=True)
class HubFile:
    """One file at a commit."""

    name: str
    """Path below what the address names; for a single file, its name."""
    url: str
    """Where it is read; it holds the commit, so its content never changes."""
    size: int
    """Bytes."""
    content: str
    """Names its content: Git's blob id, or `sha256:<hex>` for a large file."""

    @property
    def sha256(self) -> str | None:
        """Digest of a large file; None where the Hub keeps none."""
        return self.content if self.content.startswith(PREFIX) else None


def list_files(address: str) -> tuple[bool, list[HubFile]]:
    """Whether `address` is one file, and the files to download for it, in order.

    Raises NotFound, ConfigError for what may not be read, DataError for a model without safetensors.
    """
    address = redact(address)
    parsed = HubAddress.parse(address)
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    with _translated(address):
        api = HfApi(endpoint=endpoint, library_name="fairlead")
        commit = api.repo_info(parsed.repo, repo_type=parsed.kind, revision=parsed.revision).sha
        if not commit:
            raise StorageError(f"{address}: {endpoint} names no commit; name a revision")
        is_file, found = _list_model(api, parsed, commit) if parsed.kind == "model" else _list_data(api, parsed, commit)
        files = [_hub_file(parsed, file, commit, endpoint, is_file) for file in found]
    if not files:
        raise NotFound(f"{address}: there is no such file or folder; check the path and the revision")
    return is_file, sorted(files, key=lambda file: file.name)


def download_file(file: HubFile, path: Path, advance: Advance) -> None:
    """Download one file, going on where an earlier try broke; a large one is checked against the Hub's digest."""
    token = get_token()
    # httpx drops the token where the Hub redirects to another host.
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    download(inspect(file.url, headers), path, file.sha256, headers, advance)


def _list_model(api: HfApi, address: HubAddress, commit: str) -> tuple[bool, list[RepoFile]]:
    tree = api.list_repo_tree(address.repo, recursive=True, revision=commit, repo_type=address.kind)
    files = [entry for entry in tree if isinstance(entry, RepoFile)]
    if not any(WEIGHTS.fullmatch(file.path) for file in files):
        raise DataError(
            f"hf://{address.repo}: it has no weights as safetensors, and pickles are never loaded; "
            "name a model or revision (such as refs/pr/1) that has model.safetensors"
        )
    return False, [file for file in files if WEIGHTS.fullmatch(file.path) or BESIDE_WEIGHTS.fullmatch(file.path)]


def _list_data(api: HfApi, address: HubAddress, commit: str) -> tuple[bool, list[RepoFile]]:
    entries = api.get_paths_info(address.repo, [address.path], revision=commit, repo_type=address.kind)
    if entries and isinstance(entries[0], RepoFile):
        return True, [entries[0]]
    if not entries:
        return False, []
    tree = api.list_repo_tree(address.repo, address.path, recursive=True, revision=commit, repo_type=address.kind)
    return False, [entry for entry in tree if isinstance(entry, RepoFile)]


def _hub_file(address: HubAddress, file: RepoFile, commit: str, endpoint: str, is_file: bool) -> HubFile:
    url = hf_hub_url(address.repo, file.path, repo_type=address.kind, revision=commit, endpoint=endpoint)
    below = file.path.rpartition("/")[2] if is_file else file.path.removeprefix(f"{address.path}/")
    return HubFile(check_key(below), url, file.size, PREFIX + file.lfs.sha256 if file.lfs else file.blob_id)


@contextmanager
def _translated(address: str) -> Iterator[None]:
    try:
        yield
    except FairleadError:
        raise
    except GatedRepoError as error:
        raise ConfigError(
            f"{address}: its owner grants access one by one; ask on its page, then set HF_TOKEN"
        ) from error
    except RevisionNotFoundError as error:
        raise NotFound(f"{address}: there is no such revision; check what follows the @") from error
    except RepositoryNotFoundError as error:
        raise NotFound(
            f"{address}: there is no such repository, or it is private; check the name or set HF_TOKEN"
        ) from error
    except EntryNotFoundError as error:
        raise NotFound(f"{address}: there is no such file or folder; check the path and the revision") from error
    except HFValidationError as error:
        raise ConfigError(f"{address}: it is no name of a repository; {HOW}") from error
    except OfflineModeIsEnabled as error:
        raise ConfigError(f"{address}: HF_HUB_OFFLINE is set; unset it, or give a path") from error
    except HfHubHTTPError as error:
        if error.response.status_code in (401, 403):
            raise ConfigError(f"{address}: the Hub refuses the token; set HF_TOKEN to one that may read it") from error
        reason = redact_text(str(error).splitlines()[0])
        raise StorageError(f"{address}: the Hub refuses it ({reason}); run again later or correct HF_TOKEN") from error
    except HTTPError as error:
        reason = redact_text(str(error)) or type(error).__name__
        raise StorageError(
            f"{address}: the Hub cannot be reached ({reason}); see to the network or HF_ENDPOINT"
        ) from error
