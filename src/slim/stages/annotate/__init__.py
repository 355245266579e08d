"""Stage 4: query selection, annotators (page, terminal, oracles, recorded answers), and the store of their answers.

`annotate` is the stage; an annotator is any object with a name and a method ``answer(query)``.
"""
