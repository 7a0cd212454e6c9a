"""The run directory: what is on disk, in which form, and how it is written whole or not at all."""

from autointerp.store.corpus_files import TokenTable
from autointerp.store.files import write_text
from autointerp.store.lock import RunLock
from autointerp.store.run_store import RunStore, UnitSummary
from autointerp.store.status import RunStatus, config_file, folder_of_config, run_status

__all__ = [
    "RunLock",
    "RunStatus",
    "RunStore",
    "TokenTable",
    "UnitSummary",
    "config_file",
    "folder_of_config",
    "run_status",
    "write_text",
]
