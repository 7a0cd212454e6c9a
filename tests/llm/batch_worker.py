"""Asks in batches, to be killed: `python -m tests.llm.batch_worker FOLDER URL VENDOR`."""

import sys
from pathlib import Path

from tests.llm.test_batch import asked, process


class Server:
    """The address of a server in another process."""

    def __init__(self, url: str) -> None:
        self.openai_url, self.anthropic_url = f"{url}/v1", url


if __name__ == "__main__":
    folder, url, vendor = sys.argv[1:]
    with process(Path(folder), Server(url), vendor) as client:  # type: ignore[arg-type]
        client.complete(asked(12))
