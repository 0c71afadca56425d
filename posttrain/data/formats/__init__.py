"""From the rows of public datasets to records: one function a format, and no file is touched here.

format     one row
gsm8k      {"question", "answer": "… <<48/2=24>>24 …\\n#### 72"}                                 arXiv:2110.14168
           or MATH's {"problem", "solution": "… \\boxed{72}"}, MMLU's {"question", "choices", "answer": 1}
svamp      {"Body", "Question", "Equation": "( 76.0 - 25.0 )", "Answer": 51.0}                    arXiv:2103.07191
qa         {"question", "answer"}, with or without the way to it
reft       {"item_id", "question", "answer_cot": "def solution(): …", "answer_value": "72.0"}     arXiv:2401.08967
alpaca     {"instruction", "input", "output" | "chosen", "rejected"}, also "system" and "history"
sharegpt   {"conversations": [{"from": "human", "value"}, {"from": "gpt", "value"}]} (+ chosen, rejected)
hh         {"chosen": "\\n\\nHuman: …\\n\\nAssistant: …", "rejected": …}                          arXiv:2204.05862
trl        text | messages | prompt (+ completion (+ label) | + chosen, rejected), plain or as messages
openai     {"messages"} | {"input": {"messages"}, "preferred_output", "non_preferred_output"}
hub        rows of a Hugging Face dataset, read as whichever of these its columns show
records    our own form (posttrain/records.py)

What stands in a row beside these is never dropped without a word: posttrain/data/formats/fields.py.
"""
