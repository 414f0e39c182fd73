"""The pocket world: a small closed world that the pocket bases know, written from facts and
templates of our own.

`lexicon`  the words: countries, people, places, objects, adjectives, the language Velan
`grammar`  sentences and short texts made from those words
`tasks`    rows for fine-tuning, split into train / validation / test (and a shifted domain where a
lesson needs one)
`corpus`   documents for pre-training, which contain no task row
"""
