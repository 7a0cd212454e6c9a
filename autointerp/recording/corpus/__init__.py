"""A corpus: documents, their near-duplicate clusters, their splits, and sequences of tokens."""

from autointerp.recording.corpus.documents import (
    Corpus,
    Source,
    document_id,
    read_corpus,
    read_sources,
    split_of_cluster,
)
from autointerp.recording.corpus.near_duplicates import near_duplicate_clusters
from autointerp.recording.corpus.report import CorpusReport
from autointerp.recording.corpus.tokens import (
    BosPolicy,
    CutCorpus,
    Cutting,
    bos_ids,
    cut_corpus,
    documents_per_split,
    sequences_of,
    sequences_of_corpus,
    vocabulary,
)

__all__ = [
    "BosPolicy",
    "Corpus",
    "CorpusReport",
    "CutCorpus",
    "Cutting",
    "Source",
    "bos_ids",
    "cut_corpus",
    "document_id",
    "documents_per_split",
    "near_duplicate_clusters",
    "read_corpus",
    "read_sources",
    "sequences_of",
    "sequences_of_corpus",
    "split_of_cluster",
    "vocabulary",
]
