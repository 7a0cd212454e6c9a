import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from autointerp.records import AutointerpError
from autointerp.units import Directions, DirectionSet, random_directions, read_directions
from autointerp.units.direction_files import load_fitted, save_fitted
from autointerp.units.directions import StreamingMoments


def directions_of(found: DirectionSet, n: int, width: int) -> Directions:
    return Directions("d", "subject", "place", n, width, lambda: found, torch.device("cpu"))


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_channels_are_the_hidden_state_itself():
    source, hidden = directions_of(DirectionSet(None), 6, 6), normal(9, 6).bfloat16()
    assert torch.equal(source.encode(hidden).values, hidden.float())
    assert torch.equal(source.encode(hidden, slice(2, 4)).values, hidden[:, 2:4].float())
    assert torch.equal(source.write_directions([4, 0]), torch.eye(6)[[4, 0]])


def test_values_are_projections_from_the_centre():
    rows, centre, hidden = normal(4, 6), normal(6, seed=1), normal(9, 6, seed=2)
    source = directions_of(DirectionSet(rows, centre), 4, 6)
    expected = torch.tensor([[float(((h - centre) * row).sum()) for row in rows] for h in hidden])
    torch.testing.assert_close(source.encode(hidden).values, expected)
    torch.testing.assert_close(source.encode(hidden, slice(1, 3)).values, expected[:, 1:3])
    assert torch.equal(source.write_directions([3, 1]), rows[[3, 1]])
    assert source.polarities == (1, -1) and source.write_at == "place"


def test_the_fingerprint_is_of_the_numbers():
    rows = normal(4, 6)
    prints = {
        directions_of(found, len(rows), 6).fingerprint()
        for found in (DirectionSet(rows), DirectionSet(rows, normal(6)), DirectionSet(rows + 1e-6))
    }
    assert len(prints) == 3
    again = directions_of(DirectionSet(rows.clone()), 4, 6)
    assert again.fingerprint() in prints


def test_random_directions_are_seeded_of_length_one_and_uniform():
    rows = random_directions(4000, 3, 7)
    assert torch.equal(rows, random_directions(4000, 3, 7))
    assert not torch.equal(rows, random_directions(4000, 3, 8))
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(4000))
    # On a sphere in three dimensions every coordinate is uniform on [-1, 1] (Archimedes).
    for column in rows.T:
        places = column.sort().values
        uniform = torch.linspace(-1, 1, 4000)
        assert float((places - uniform).abs().max()) < 0.06


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=6), st.integers(1, 5))
def test_moments_in_batches_are_those_of_all_rows(sizes, width):
    batches = [normal(size, width, seed=i) * 3 + 50 for i, size in enumerate(sizes)]
    moments = StreamingMoments(width, covariance=True)
    for batch in batches:
        moments.add(batch)
    rows = torch.cat(batches).double()
    assert moments.n == len(rows)
    if len(rows) < 2:
        return
    torch.testing.assert_close(moments.mean, rows.mean(0))
    expected = torch.cov(rows.T).reshape(width, width) * (len(rows) - 1)
    torch.testing.assert_close(moments.scatter, expected, rtol=1e-6, atol=1e-6)


def test_components_are_those_of_the_singular_value_decomposition():
    rows = normal(500, 8) @ torch.diag(torch.arange(8, 0, -1).float()) @ normal(8, 8, seed=3) + 9
    moments = StreamingMoments(8, covariance=True)
    for batch in rows.split(37):
        moments.add(batch)
    components, variances = moments.components(5)
    centred = (rows - rows.mean(0)).double()
    _, singular, right = torch.linalg.svd(centred, full_matrices=False)
    torch.testing.assert_close(variances.double(), (singular**2 / 499)[:5], rtol=1e-5, atol=1e-5)
    cosines = (components.double() * right[:5]).sum(1).abs()
    torch.testing.assert_close(cosines, torch.ones(5).double())
    largest = components.gather(1, components.abs().argmax(1, keepdim=True))
    assert bool((largest > 0).all())


# ------------------------------------------------------------------ files


def saved(folder, **tensors):
    path = folder / "directions.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_a_files_rows_are_read_as_they_are(dtype, tmp_path):
    rows = normal(5, 6).to(dtype)
    found = read_directions(saved(tmp_path, probes=rows), 6)
    assert found.dtype == torch.float32 and torch.equal(found, rows.float())


def test_one_of_several_tensors_is_named(tmp_path):
    path = saved(tmp_path, a=normal(5, 6), b=normal(2, 6))
    assert len(read_directions(path, 6, "b")) == 2
    with pytest.raises(AutointerpError, match="tensors are: a, b; set `tensor:` to one of them"):
        read_directions(path, 6)
    with pytest.raises(AutointerpError, match="a, b; there is no 'c'"):
        read_directions(path, 6, "c")


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (torch.ones(6, 5), r"shape \[6, 5\]; expected \[n, 6\]"),
        (torch.ones(6), r"shape \[6\]; expected"),
        (torch.ones(0, 6), r"shape \[0, 6\]; expected"),
        (torch.ones(2, 6, dtype=torch.int64), "holds I64; expected F32"),
        (torch.full((2, 6), float("nan")), "holds NaN or values beyond float32"),
        (torch.full((2, 6), 1e300, dtype=torch.float64), "holds NaN or values beyond float32"),
        (torch.eye(6) * (torch.arange(6) != 4), "row 4 of 'rows' is all zeros"),
    ],
)
def test_matrices_of_no_use_are_refused(tensor, said, tmp_path):
    with pytest.raises(AutointerpError, match=said):
        read_directions(saved(tmp_path, rows=tensor), 6)


class Payload:
    def __reduce__(self):
        return (open, ("pwned", "w"))


def test_files_that_are_no_safetensors_are_refused_and_nothing_in_them_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"rows": Payload()}, "evil.safetensors")
    (tmp_path / "short.safetensors").write_bytes(saved(tmp_path, a=normal(5, 6)).read_bytes()[:90])
    (tmp_path / "long_header.safetensors").write_bytes(b"\xff" * 64)
    (tmp_path / "empty.safetensors").write_bytes(b"")
    for name in ("evil", "short", "long_header", "empty"):
        with pytest.raises(AutointerpError, match="not a safetensors file, or a damaged one"):
            read_directions(f"{name}.safetensors", 6)
    assert not (tmp_path / "pwned").exists()
    for name in ("missing.safetensors", "."):
        with pytest.raises(AutointerpError, match="there is no such file"):
            read_directions(name, 6)


def test_fitted_directions_come_back_under_their_key_only(tmp_path):
    found = DirectionSet(normal(3, 4), normal(4), normal(3).abs())
    path = tmp_path / "directions" / "pca.safetensors"
    assert load_fitted(path, "key") is None
    save_fitted(path, found, "key")
    back = load_fitted(path, "key")
    assert back is not None and back.fingerprint() == found.fingerprint()
    assert torch.equal(back.variance, found.variance)
    assert load_fitted(path, "other key") is None
    path.write_bytes(path.read_bytes()[:40])
    assert load_fitted(path, "key") is None
