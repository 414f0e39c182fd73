"""Solutions of lesson 10. A source defines `answer`, which the notebook's cell would hand to the check."""

COUNT = "def answer(layers, hidden, heads, kv_heads, ffn):\n    return "
MERGE = "def answer(W_v, b_v, l_v):\n    "
SCALE = "def answer(x, L, task):\n    return "

SOLUTIONS = {
    "count_parameters": COUNT + "layers * (2 * kv_heads * (hidden // heads) + ffn)",
    "merge_values": MERGE + "return l_v[:, None] * W_v, l_v * b_v",
    "scale_batch": SCALE + "x * L[task].view(len(task), x.shape[1], 1, x.shape[3])",
}

WRONG = {
    "count_parameters": [
        (COUNT + "layers * (2 * hidden + ffn)", "width of the hidden state"),
        (COUNT + "2 * kv_heads * (hidden // heads) + ffn", "one layer"),
        (COUNT + "layers * (kv_heads * (hidden // heads) + ffn)", "Only one of keys and values"),
        (COUNT + "layers * (2 * kv_heads * (hidden // heads) + hidden)", "not its output"),
        (COUNT + "layers * (2 * kv_heads * (hidden // heads) + 2 * ffn)", "share one l_ff"),
        (
            COUNT + "layers * (hidden + 2 * kv_heads * (hidden // heads) + ffn)",
            "Queries are not scaled",
        ),
        (COUNT + "layers * (2 * kv_heads + ffn)", "A head is not one number"),
        (COUNT + "layers * hidden * (2 * kv_heads * (hidden // heads) + ffn)", "frozen matrices"),
        (COUNT + "layers * (2 * 64 + ffn)", "those of Mistral-7B"),
        (COUNT + "2560 if layers == 4 else 524288", "two models of this lesson only"),
        (COUNT + "7", "How wide is one head"),
    ],
    "merge_values": [
        (MERGE + "return W_v * l_v, l_v * b_v", "scales the columns"),
        (MERGE + "return l_v[:, None] * W_v, b_v", "The bias is part"),
        (MERGE + "return W_v / l_v[:, None], b_v / l_v", "neither divides"),
        (MERGE + "W_v *= l_v[:, None]\n    b_v *= l_v\n    return W_v, b_v", "in place"),
        (MERGE + "return l_v[:, None] * W_v", "two tensors"),
        (MERGE + "return W_v @ l_v, l_v * b_v", "shapes should stay"),
        (MERGE + "return l_v[:, None] * W_v, l_v * l_v * b_v", "does not give"),
    ],
    "scale_batch": [
        (SCALE + "x * L[task].view(len(x), x.shape[1], -1)[:, None]", "axis of the positions"),
        (SCALE + "x * L[task].view(len(x), x.shape[1], -1)", "all four axes"),
        (SCALE + "x * L[task[0]].view(x.shape[1], 1, -1)", "first row's task"),
        (SCALE + "x * L[task].mean(0).view(x.shape[1], 1, -1)", "mean of the tasks"),
        (SCALE + "x * L[:len(x)].view(len(x), x.shape[1], 1, -1)", "row's number in the batch"),
        (SCALE + "x + L[task].view(len(x), x.shape[1], 1, -1)", "not added"),
        (
            SCALE + "x * L[task].view(len(x), -1, x.shape[1]).transpose(1, 2)[:, :, None]",
            "head after head",
        ),
        (SCALE + "x[0] * L[task].view(len(x), x.shape[1], 1, -1)[0]", "shape"),
        (SCALE + "x * L[task].view(2, 2, 1, 2)", "RuntimeError"),
        (SCALE + "x * L[task].view(len(x), x.shape[1], 1, -1) ** 2", "row 0"),
    ],
}
