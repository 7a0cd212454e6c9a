"""Documents streamed from a Hugging Face data set; `datasets` is in the extra `hub`."""

from collections.abc import Iterator
from typing import Any

from autointerp.recording.corpus.readers import RawDocument, document_of_row
from autointerp.recording.corpus.report import CorpusReport
from autointerp.records import AutointerpError, UsageError


def read_dataset(
    name: str, config: str | None, split: str, text_field: str, report: CorpusReport
) -> Iterator[RawDocument]:
    """Stream the rows of a data set; nothing but what is read is fetched.

    Args:
        name: a hub id, or a folder that `datasets.load_dataset` understands.
        config: the data set's configuration, such as `sample-10BT`; `None` for its only one.
        split: such as `train`.
        text_field: the column with the text; `id` and `kind` are read too.

    Raises:
        UsageError: where the `datasets` library is not installed.
        AutointerpError: where there is no such data set, split or column.
    """
    try:
        import datasets
    except ImportError as error:
        raise UsageError(
            "corpora from Hugging Face need the `datasets` library: "
            "pip install 'autointerp[hub]', or give `path:`"
        ) from error
    where = f"data set {name!r}"
    try:
        rows: Any = datasets.load_dataset(name, config, split=split, streaming=True)
        columns = rows.column_names
        if columns is not None and text_field not in columns:
            raise AutointerpError(
                f"{where} has no column {text_field!r}; its columns: {', '.join(columns)}. Set "
                "`text_field`"
            )
        if columns is not None:
            rows = rows.select_columns([c for c in columns if c in (text_field, "id", "kind")])
        for number, row in enumerate(rows, start=1):
            place = f"{where}, row {number}"
            document = document_of_row(row, place, f"row {number}", text_field, report)
            if document is not None:
                yield document
    except AutointerpError:
        raise
    except Exception as error:
        # Loaders of all formats run below; what they raise is theirs to choose.
        raise AutointerpError(
            f"{where} (split {split!r}) could not be read: {str(error).strip()[:300]}"
        ) from error
