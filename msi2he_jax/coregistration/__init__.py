"""One section and its slide in one frame: the pair, its alignment, its scores and its pictures."""
