"""Ion images against a slow loop over dense spectra."""

import numpy as np
import pytest

from msi2he_jax.errors import InputError
from msi2he_jax.msi import images, spectra
from msi2he_jax.msi.imzml import open_imzml
from msi2he_jax.msi.peaks import Peaks


def axis_of(step=200.0):
    return spectra.mass_axis("ppm", mz_min=100.0, mz_max=200.0, step=step)


def slow_images(file, peaks, axis, window, method, gap):
    result = np.zeros((*file.shape, len(peaks)))
    for i in range(file.n):
        dense = spectra.rebin(*file.spectrum(i), axis, method=method, gap_tol_da=gap)
        for k, mz in enumerate(peaks.mz):
            low, high = peaks.lower[k], peaks.upper[k]
            if window != "bounds":
                low, high = mz * (1 - window * 1e-6), mz * (1 + window * 1e-6)
            chosen = (axis.mz >= low) & (axis.mz <= high)
            if not chosen.any():
                chosen[np.abs(axis.mz - mz).argmin()] = True
            result[(*file.coordinates[i], k)] += dense[chosen].sum()
    return result


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("method", ["linear", "sum"])
@pytest.mark.parametrize(
    ("window", "gap"), [("bounds", None), (1000, None), (7, None), (900.0, 1.0)]
)
def test_images_equal_the_loop(pair, shared, method, window, gap):
    positions = [(1, 1), (2, 1), (4, 1), (2, 3), (5, 5)]
    file = open_imzml(pair(positions=positions, shared=shared, points=80).path)
    axis = axis_of()
    peaks = spectra.pick_peaks(axis, spectra.summed_spectrum(file, axis, method=method), count=12)
    got = images.ion_images(file, peaks, axis, window=window, method=method, gap_tol_da=gap)
    assert got.shape == (5, 5, 12) and got.dtype == np.float32
    expected = slow_images(file, peaks, axis, window, method, gap)
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6 * expected.max())
    assert expected.max() > 0 and (got[~file.mask] == 0).all()


def test_peaks_at_the_ends_and_outside_the_spectra(pair):
    file = open_imzml(pair([([150.0, 150.1], [1.0, 2.0])] * 6, mode="centroid").path)
    axis = axis_of()
    ends = np.array([axis.mz[0], axis.mz[-1]])
    peaks = Peaks(ends, ends, ends, np.ones(2))
    for method in ("sum", "linear"):
        assert images.ion_images(file, peaks, axis, method=method).sum() == 0


def test_empty_spectra_give_zero(pair):
    file = open_imzml(pair([([], []), ([150.0], [2.0])], [(1, 1), (2, 1)], mode="centroid").path)
    axis = axis_of()
    peaks = spectra.pick_peaks(axis, spectra.summed_spectrum(file, axis), count=3)
    assert images.ion_images(file, peaks, axis)[0, :, 0].tolist() == [0.0, 2.0]
    assert images.ion_images(file, peaks, axis, method="linear").shape == (1, 2, 1)


def test_duplicates_are_added(pair):
    spectra_ = [([150.0], [1.0]), ([150.0], [2.0]), ([150.0], [4.0])]
    path = pair(spectra_, [(1, 1), (2, 1), (1, 1)], mode="centroid").path
    file, axis = open_imzml(path, duplicates="sum"), axis_of()
    peaks = spectra.pick_peaks(axis, spectra.summed_spectrum(file, axis), count=1)
    assert images.ion_images(file, peaks, axis).ravel().tolist() == [5.0, 2.0]
    assert images.tic_image(file).tolist() == [[5.0, 2.0]]


def test_unknown_window(pair):
    file, axis = open_imzml(pair().path), axis_of()
    peaks = spectra.pick_peaks(axis, spectra.summed_spectrum(file, axis), count=1)
    with pytest.raises(InputError, match="window: is 'fwhm'"):
        images.ion_images(file, peaks, axis, window="fwhm")


def test_real_images_equal_the_decoded_arrays(sample_data):
    """The imzML crops hold the same numbers as the npz they were cut from."""
    file = open_imzml(sample_data / "desi_lung_mrm" / "lung_crop96_continuous.imzML")
    low, high = file.mz_range
    axis = spectra.mass_axis("ppm", mz_min=low, mz_max=high, step=20.0)
    peaks = spectra.pick_peaks(axis, spectra.summed_spectrum(file, axis), count=6)
    got = images.ion_images(file, peaks, axis)
    channels = np.stack([file.spectrum(i)[1] for i in range(file.n)]).reshape(96, 96, 6)
    np.testing.assert_array_equal(got, channels)
    assert not images.tic_is_meaningful(file)


def test_tic_normalisation_is_floored():
    stack = np.array([[[10.0, 90.0], [1.0, 1.0]], [[20.0, 80.0], [0.0, 0.0]]])
    tic = np.array([[100.0, 2.0], [100.0, 0.0]])
    mask = np.array([[True, True], [True, False]])
    got = images.normalize(stack, tic, mask)
    np.testing.assert_allclose(got[:, 0], [[0.1, 0.9], [0.2, 0.8]], rtol=1e-6)
    np.testing.assert_allclose(got[0, 1], 1 / 5, rtol=1e-6)
    assert got[1, 1].tolist() == [0.0, 0.0] and got.dtype == np.float32
    np.testing.assert_array_equal(
        images.normalize(stack, tic, mask, kind="none")[mask], stack[mask]
    )
    with pytest.raises(InputError, match="normalization: is 'sum'"):
        images.normalize(stack, tic, mask, kind="sum")


def test_scale_pools_the_masked_pixels_of_all_images():
    rng = np.random.default_rng(0)
    stacks = [rng.random((8, 9, 3)), rng.random((5, 4, 3)) * 10]
    stacks[0][..., 2] = stacks[1][..., 2] = 0
    masks = [rng.random(stack.shape[:2]) > 0.3 for stack in stacks]
    scale = images.intensity_scale(stacks, masks)
    pooled = np.concatenate([stack[mask] for stack, mask in zip(stacks, masks)])
    np.testing.assert_allclose(scale[:2], np.percentile(pooled, 99.5, axis=0)[:2])
    assert scale[2] == 1.0
    scaled = images.apply_scale(stacks[1], scale)
    assert scaled.dtype == np.float32 and scaled.min() >= 0 and scaled.max() == 1.0
    np.testing.assert_allclose(
        scaled, np.sqrt(np.minimum(stacks[1] / scale, 1)), rtol=1e-6, atol=1e-7
    )
    plain = images.apply_scale(stacks[1], scale, transform="none")
    np.testing.assert_allclose(plain, scaled**2, rtol=1e-5, atol=1e-7)


def test_sparse_channel_is_scaled_by_its_maximum():
    stack = np.zeros((30, 30, 1))
    stack[3, 4] = 7.0
    assert images.intensity_scale([stack], [np.ones((30, 30), bool)]).tolist() == [7.0]


def test_scale_refusals():
    stack, none = np.zeros((2, 2, 3)), np.zeros((2, 2), bool)
    with pytest.raises(InputError, match="mask: holds no pixel to take a scale from"):
        images.intensity_scale([stack], [none])
    with pytest.raises(InputError, match="scale: has 2 channels, the images have 3"):
        images.apply_scale(stack, np.ones(2))
    with pytest.raises(InputError, match="transform: is 'log'"):
        images.apply_scale(stack, np.ones(3), transform="log")


def test_a_scale_may_be_a_whole_number_of_any_size():
    """As JSON may hold it: 300 digits are within the range of a float."""
    scaled = images.apply_scale(np.ones((2, 2, 2), np.float32), [1, 10**299], "sqrt")
    assert scaled.dtype == np.float32 and scaled[0, 0].tolist() == [1.0, 0.0]
