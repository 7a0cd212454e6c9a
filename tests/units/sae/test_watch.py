import csv
import re

import pytest

from autointerp.units.sae.fitting import Progress
from autointerp.units.sae.watch import TrainingLog, Warnings, page


def at(n_tokens: int, name: str = "a", **values) -> Progress:
    usual = {"loss": 0.2, "explained_variance": 0.8, "l0": 32.0, "dead_share": 0.0}
    return Progress(name, n_tokens, **(usual | values), tokens_per_second=1000.0)


def said(*rows: Progress) -> list[str]:
    warnings = Warnings(warmup_tokens=1000)
    return [text for row in rows for text in warnings.of(row)]


def test_a_training_that_goes_well_is_not_spoken_of():
    assert not said(*(at(n, loss=1 / n) for n in range(500, 5000, 100)))


def test_dead_latents_are_named_early_and_again_when_they_have_doubled():
    rows = [at(n, dead_share=share) for n, share in ((500, 0.2), (600, 0.3), (700, 0.5))]
    found = said(*rows)
    assert len(found) == 2
    assert "20% of its latents are dead at 500 tokens" in found[0] and "50%" in found[1]


def test_a_loss_that_rises_is_named_once_and_not_for_one_bad_batch():
    assert not said(at(2000), at(3000, loss=0.9), at(4000))
    found = said(*(at(1000 * n, loss=loss) for n, loss in enumerate((0.2, 0.4, 0.5, 0.6), 2)))
    (text,) = found
    assert "loss is 0.5 at 4,000 tokens and was 0.2" in text


def test_nothing_learnt_and_nothing_active_are_named_after_the_warm_up():
    assert not said(at(900, explained_variance=-3.0, l0=0.0))
    found = said(*(at(n, explained_variance=-3.0, l0=0.1) for n in (2000, 3000)))
    assert len(found) == 2
    assert "explains less than the mean" in found[0] and "0.10 latents are active" in found[1]


def rows_of(folder) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as opened:
        return list(csv.DictReader(opened))


def test_a_continued_training_writes_every_row_once(tmp_path):
    log = TrainingLog(tmp_path, 0)
    for n in (100, 200, 300):
        for name in ("a", "b"):
            log.add(at(n, name, loss=n / 1000))
    # Killed; its last checkpoint was after 100 tokens. A line was cut off.
    with (tmp_path / "metrics.csv").open("a") as opened:
        opened.write("a,40")
    again = TrainingLog(tmp_path, 0)
    for n in (200, 300, 400):
        for name in ("a", "b"):
            again.add(at(n, name, loss=n / 1000))
    found = [(row["dictionary"], int(row["n_tokens"])) for row in rows_of(tmp_path)]
    assert sorted(found) == sorted((name, n) for n in (100, 200, 300, 400) for name in "ab")
    assert {row["loss"] for row in rows_of(tmp_path)} == {"0.1", "0.2", "0.3", "0.4"}


def test_the_parts_of_different_losses_have_columns_of_their_own(tmp_path):
    log = TrainingLog(tmp_path, 0)
    log.add(Progress("a", 1, 0.1, 0.5, 3, 0, 9, {"aux_k": 0.5}))
    log.add(Progress("b", 1, 0.1, 0.5, 3, 0, 9, {"l1": 7.0}))
    a, b = rows_of(tmp_path)
    assert (a["aux_k"], a["l1"], b["aux_k"], b["l1"]) == ("0.5", "", "", "7")


def test_the_page_is_whole_and_runs_nothing(tmp_path):
    rows = [at(n, name) for n in (100, 200) for name in ("a", "<script>alert(1)</script>")]
    found = page(rows)
    assert found.count("<svg") == 1 and found.endswith("</html>\n")
    assert "<script" not in found and "&lt;script&gt;" in found
    assert not re.search(r'(?:src|href)="(?!#)', found)
    assert 'http-equiv="refresh" content="60"' in found


def test_the_page_is_there_from_the_first_report_on(tmp_path):
    TrainingLog(tmp_path, 0).add(at(100))
    assert "<svg" in (tmp_path / "progress.html").read_text()


@pytest.mark.parametrize("text", ["", "dictionary,n_tokens\na,b\n", "\x00"])
def test_a_damaged_table_of_metrics_does_not_stop_a_training(tmp_path, text):
    (tmp_path / "metrics.csv").write_text(text)
    TrainingLog(tmp_path, 0).add(at(100))
    assert len(rows_of(tmp_path)) == 1
