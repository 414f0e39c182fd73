"""Solution and plausible mistakes of lesson 00's exercise."""

SOLUTIONS = {"share": lambda trained, total: 100 * trained / total}

MISTAKES = {
    "share": [
        ("fraction", lambda trained, total: trained / total, "as a fraction"),
        ("upside down", lambda trained, total: 100 * total / trained, "The total goes below"),
        ("ratio", lambda trained, total: total / trained, "The total goes below"),
        (
            "of frozen",
            lambda trained, total: 100 * trained / (total - trained),
            "You divided by the frozen",
        ),
        ("frozen share", lambda trained, total: 100 - 100 * trained / total, "stays frozen"),
        ("whole", lambda trained, total: trained * 100 // total, "Divide with `/`"),
        ("count", lambda trained, total: trained, "number that trained"),
        ("rounded", lambda trained, total: round(100 * trained / total, 2), "unrounded"),
        ("constant", lambda trained, total: 2.5, "whatever it is given"),
        ("first alone", lambda trained, total: trained / 20, "total = 1000 you gave 1.5"),
        ("text", lambda trained, total: f"{trained / total:.1%}", "you gave a text"),
        ("list", lambda trained, total: [100 * trained / total], "Give one number"),
        ("one argument", lambda trained: 100 * trained / 2000, "takes 1 argument"),
        ("crash", lambda trained, total: 100 / (total / trained), "For trained = 0"),
    ]
}
