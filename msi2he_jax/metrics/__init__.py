"""Image metrics, batched and jitted: information, similarity, colour, intervals, null baselines.

Images are `[B, H, W, C]` (or `[B, H, W]` where one channel is meant), float in [0, 1] unless
`data_range` says otherwise; masks are `[B, H, W]` bool; scores are one number per image.
"""
