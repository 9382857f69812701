"""Bringing MSI and histology into one frame: transforms, landmarks, automatic alignment, scores.

Points are (y, x) in micrometres from the outer corner of the first pixel, matrices act on
homogeneous (y, x, 1) and map MSI (moving) to histology (fixed). Files hold (x, y); the border is
`transforms.swap_xy`.
"""
