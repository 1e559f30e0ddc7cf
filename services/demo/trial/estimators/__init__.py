"""The training code of the candidates of the trial; each file becomes the ``training.py`` of a model."""
