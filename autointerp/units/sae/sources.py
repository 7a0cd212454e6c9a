"""Where a dictionary's files come from: a local path, or a repository on the Hugging Face hub.

`organisation/repository:path/in/it` names a folder or a file on the hub. Only that folder's weights
and the small texts beside and above them are fetched, into the hub's own cache; what is cached is
read again without a network.
"""

import contextlib
import re
from pathlib import Path, PurePosixPath

from autointerp.records import AutointerpError
from autointerp.units.sae.formats.checkpoint import SUFFIXES

_HUB = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?::(?P<path>[^:\\]+))?")
_TEXTS = (".json", ".yaml")
MOST_WEIGHTS = 8
"""Files of weights fetched at once; a repository of hundreds is not fetched by mistake."""


def local_path(given: str | Path, revision: str | None = None) -> Path:
    """A folder or file on this machine; from the hub where nothing local has that name.

    Raises:
        AutointerpError: where there is neither, or the hub cannot be reached.
    """
    path = Path(given).expanduser()
    if path.exists():
        return path
    text = str(given)
    match = _HUB.fullmatch(text)
    if match is None or ".." in text or text.startswith("."):
        raise AutointerpError(
            f"no sparse autoencoder at {text!r}: there is no such folder or file; on the hub "
            "it is organisation/repository:path/in/it"
        )
    return _from_hub(match["repo"], (match["path"] or "").strip("/"), revision)


def wanted_files(files: list[str], path: str) -> list[str]:
    """The files of a repository that belong to the checkpoint at `path`.

    Args:
        files: all of the repository's, with forward slashes.
        path: a file or folder in it; "" for its top.

    Raises:
        AutointerpError: where there are no weights at `path`, or more than one checkpoint's.
    """
    weights = [file for file in files if file.endswith(SUFFIXES)]
    inside = [file for file in weights if _is_within(file, path)]
    direct = [file for file in inside if file == path or str(PurePosixPath(file).parent) == path]
    if not path:
        direct = [file for file in inside if "/" not in file]
    chosen = direct or inside
    layer = re.search(r"(?:^|/)W_enc_(\d+)\.safetensors$", path)
    if layer:
        # The decoder of one layer of a cross-layer transcoder is a file of its own.
        folder = path[: -len(PurePosixPath(path).name)]
        chosen += [f for f in weights if f == f"{folder}W_dec_{layer[1]}.safetensors"]
    if not chosen or len(chosen) > MOST_WEIGHTS:
        listed = ", ".join((inside or weights or files)[:8])
        raise AutointerpError(
            f"{'no weights' if not chosen else f'{len(chosen)} files of weights'} at "
            f"{path or 'the top'} of the repository; name one checkpoint after a colon. There: "
            f"{listed[:600] or 'nothing'}"
        )
    folders = {
        str(parent) for file in chosen for parent in PurePosixPath(file).parents if str(parent)
    }
    texts = [
        file
        for file in files
        if file.endswith(_TEXTS) and str(PurePosixPath(file).parent) in folders
    ]
    return chosen + texts


def _is_within(file: str, path: str) -> bool:
    return not path or file == path or file.startswith(f"{path}/")


def _from_hub(repo: str, path: str, revision: str | None) -> Path:
    """Folder or file in the hub's cache, fetched if it is not there."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    named = f"{repo}:{path}" if path else repo
    try:
        try:
            files: list[str] = HfApi().list_repo_files(repo, revision=revision)
        except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError):
            raise
        except Exception as error:
            # Offline, or the hub does not answer: what is cached is enough.
            return _cached(repo, path, revision, named, error)
        wanted = wanted_files(files, path)
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=wanted))
    except GatedRepoError as error:
        raise AutointerpError(
            f"{named}: access to this repository must be asked for on its page, then log in with "
            "`hf auth login`"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise AutointerpError(
            f"no sparse autoencoder at {named!r}: there is neither such a local folder or file nor "
            f"a public repository {repo!r} on the hub (for a private one: `hf auth login`)"
        ) from error
    except RevisionNotFoundError as error:
        raise AutointerpError(f"{named}: there is no revision {revision!r}") from error
    except (LocalEntryNotFoundError, OSError) as error:
        raise AutointerpError(
            f"{named}: fetching failed ({' '.join(str(error).split())[:200]}); run it again to go "
            "on, or fetch the folder yourself and give its path"
        ) from error
    return folder / path


def _cached(repo: str, path: str, revision: str | None, named: str, error: Exception) -> Path:
    from huggingface_hub import snapshot_download

    found: Path | None = None
    # A pattern that no file has: the whole repository need not be in the cache.
    nothing = ["/"]
    with contextlib.suppress(Exception):
        folder = snapshot_download(
            repo, revision=revision, local_files_only=True, allow_patterns=nothing
        )
        found = Path(folder) / path
    if found is None or not found.exists():
        reason = " ".join(str(error).split())[:160]
        raise AutointerpError(
            f"no sparse autoencoder at {named!r}: there is no such local folder or file, the hub's "
            f"cache does not hold it, and the hub cannot be asked ({reason}). Fetch it where there "
            f"is a network with `hf download {repo}`, copy the folder here and give its path; or "
            "unset HF_HUB_OFFLINE"
        ) from error
    return found
