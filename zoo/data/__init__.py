"""Data of the zoo: corpora as streams of word ids, and the windows models are trained and scored on."""
