"""Published weights from the Hugging Face hub, or one sentence that says why they cannot be had."""

from __future__ import annotations

from pathlib import Path

from edgekit.errors import MissingEnvironmentError

# The hub library retries an unreachable hub for half a minute or more, so one short probe is first.
_PROBE_SECONDS = 5


def download_official(repository: str, filename: str, revision: str | None) -> Path:
    """The local copy of a hub file; a cached one serves offline (HF_HUB_OFFLINE) and in need."""
    try:
        import huggingface_hub as hub
    except ImportError:
        raise MissingEnvironmentError(
            f"Fetching {filename} of {repository} needs the package huggingface_hub; install "
            "it with pip install 'edgekit-vision[hub]', or give a file downloaded "
            "elsewhere with --weights FILE."
        ) from None
    # Errors of its HTTP client, which differs between versions, come through beside the library's
    # own, hence the broad clauses.
    try:
        url = hub.hf_hub_url(repository, filename, revision=revision)
        hub.get_hf_file_metadata(url, timeout=_PROBE_SECONDS)
        return Path(hub.hf_hub_download(repository, filename, revision=revision))
    except Exception as refusal:
        try:
            return Path(
                hub.hf_hub_download(repository, filename, revision=revision, local_files_only=True)
            )
        except Exception:
            at = f" at revision {revision}" if revision else ""
            raise MissingEnvironmentError(
                f"{filename} of {repository}{at} cannot be fetched from the Hugging Face hub, "
                f"because {_reason(refusal)}; give a file downloaded elsewhere with --weights FILE."
            ) from refusal


def _reason(refusal: Exception) -> str:
    from huggingface_hub import errors

    if isinstance(refusal, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set and the file is not in the local cache"
    if isinstance(refusal, errors.GatedRepoError):
        return "its owner grants access on request only (log in with 'hf auth login')"
    if isinstance(refusal, errors.RepositoryNotFoundError):
        return "the hub has no such public repository"
    if isinstance(refusal, errors.RevisionNotFoundError):
        return "the repository has no such revision"
    if isinstance(refusal, errors.EntryNotFoundError) and not isinstance(
        refusal, errors.LocalEntryNotFoundError
    ):
        return "the repository holds no such file"
    if isinstance(refusal, errors.HFValidationError):
        return "that is not a repository name (OWNER/NAME)"
    if isinstance(refusal, errors.HfHubHTTPError):
        return f"the hub refuses (HTTP status {refusal.response.status_code})"
    return f"the hub cannot be reached ({type(refusal).__name__}: {_first_line(refusal)})"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["no details"])[0].rstrip(".")[:160]
