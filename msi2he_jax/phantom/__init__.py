"""Simulated pairs of a mass-spectrometry image and an H&E slide, with the truth known.

Tissue is laid out in the histology frame, from a seed (`tissue`) or from a real picture
(`pictures`); `molecules` turns it into latent abundance maps, `geometry` says where each MSI pixel
lies on the slide, `noise` makes the ion images look measured and `spectra` writes them as peaks.
`hardness` is the table of what makes a cohort hard; each module reads its own knobs from it.
"""
