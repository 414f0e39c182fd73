"""Sphinx settings of the site: nothing is executed, and no page asks for a file from elsewhere."""

import os
import pathlib
import tomllib

root = pathlib.Path(__file__).resolve().parent.parent.parent
_pyproject = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
repository = _pyproject["tool"]["course"]["repository"]
revision = _pyproject["tool"]["course"]["revision"]
_owner, _name = repository.split("/")

project, author, language = (
    "Parameter-efficient fine-tuning, measured",
    "the course's authors",
    "en",
)
release = version = _pyproject["project"]["version"]
html_title = "PEFT, measured"
extensions = ["myst_nb", "sphinx_copybutton", "sphinx_togglebutton"]
nb_execution_mode = "off"
nb_merge_streams = True
nb_render_markdown_format = "myst"
nb_code_prompt_show, nb_code_prompt_hide = "Show code", "Hide code"
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist", "html_image"]
myst_heading_anchors = 4
copybutton_selector = "div.cell_input div.highlight pre"
togglebutton_hint, togglebutton_hint_hide = "Show", "Hide"
# `make links`. Pages made from the repository's name exist only once it is published.
linkcheck_ignore = [
    rf"https://github\.com/{repository}",
    rf"https://{_owner}\.github\.io/",
    r"https://(colab\.research\.google\.com|kaggle\.com|mybinder\.org|codespaces\.new)/",
]
linkcheck_timeout, linkcheck_retries, linkcheck_workers = 20, 2, 4
linkcheck_anchors = False
html_theme = "sphinx_book_theme"
html_static_path = [os.environ["COURSE_STATIC"]]
html_css_files, html_js_files = ["course.css"], ["course.js"]
html_favicon = "favicon.svg"
mathjax_path = "mathjax/tex-svg.js"
html_baseurl = f"https://{_owner}.github.io/{_name}/"
html_context = {"default_mode": "auto"}
html_copy_source = html_show_sphinx = html_show_copyright = False
html_theme_options = {
    "repository_url": f"https://github.com/{repository}",
    "repository_branch": revision,
    "path_to_docs": "",
    "use_repository_button": True,
    "use_issues_button": True,
    "launch_buttons": {
        "colab_url": "https://colab.research.google.com",
        "binderhub_url": "https://mybinder.org",
        "notebook_interface": "jupyterlab",
    },
    "home_page_in_toc": True,
    "show_toc_level": 2,
    "use_download_button": False,
    "navbar_persistent": [],  # else an empty bar with a second search box lies over the page
}
