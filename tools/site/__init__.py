"""The course as a web site, from its stored notebooks.

`make site` stages them (stage.py), builds them with Sphinx (conf.py, course.css) and checks the
pages (__main__.py). browse.py looks at them in a real browser.
"""
