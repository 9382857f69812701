import numpy as np

from msi2he_jax.phantom.textures import Canvas, cells, fibres, scatter, smooth_noise, splat


def _rng(seed=0):
    return np.random.default_rng(seed)


def test_noise_is_standard_and_as_smooth_as_asked():
    canvas = Canvas((200, 240), 2.0)
    noise = smooth_noise(_rng(), canvas, 12.0)
    assert noise.shape == canvas.shape and noise.dtype == np.float32
    assert abs(noise.mean()) < 0.1 and abs(noise.std() - 1.0) < 0.1
    smoother = smooth_noise(_rng(), canvas, 48.0)
    assert np.abs(np.diff(smoother, axis=0)).mean() < 0.5 * np.abs(np.diff(noise, axis=0)).mean()


def test_same_seed_same_field_at_any_resolution():
    coarse = smooth_noise(_rng(3), Canvas((50, 40), 8.0), 60.0)
    fine = smooth_noise(_rng(3), Canvas((200, 160), 2.0), 60.0)
    blocks = fine.reshape(50, 4, 40, 4).mean(axis=(1, 3))
    assert np.abs(blocks - coarse).max() < 0.02


def test_splat_keeps_weight_and_place():
    canvas = Canvas((20, 30), 5.0)
    points = np.array([[52.5, 77.5], [40.0, 90.0]])
    image = splat(points, np.array([2.0, 4.0]), canvas)
    assert np.isclose(image.sum(), 6.0)
    assert image[10, 15] == 2.0
    assert np.allclose(image[7:9, 17:19], 1.0)


def test_splat_drops_what_falls_outside():
    assert splat(np.array([[-50.0, 10.0]]), np.ones(1), Canvas((5, 5), 5.0)).sum() == 0


def test_cells_have_walls_between_centres():
    tiling = cells(_rng(), Canvas((120, 120), 4.0), 80.0)
    assert tiling.wall_um.min() >= 0 and tiling.wall_um.max() < 80
    y, x = (np.arange(120) + 0.5) * 4.0, (np.arange(120) + 0.5) * 4.0
    distance = np.hypot(
        tiling.center_yx_um[..., 0] - y[:, None], tiling.center_yx_um[..., 1] - x[None]
    )
    assert np.median(distance) < 50
    assert distance[tiling.wall_um > 20].mean() < distance[tiling.wall_um < 2].mean()


def test_scatter_has_the_asked_density():
    points = scatter(_rng(), Canvas((100, 100), 10.0), 20.0)
    assert len(points) == 2500


def test_fibres_follow_their_coordinate():
    canvas = Canvas((160, 160), 4.0)
    streaks, across = fibres(_rng(1), canvas, thickness_um=30.0)
    dy, dx = np.gradient(across)
    gy, gx = np.gradient(streaks)
    norm = np.hypot(dy, dx)
    over = np.abs((gy * dy + gx * dx) / norm).mean()
    along = np.abs((gy * dx - gx * dy) / norm).mean()
    assert over > 2 * along
