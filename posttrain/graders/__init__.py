"""Graders: programs that mark a completion, one code for training reward, evaluation and audit (docs/graders.md).

interface   Sample, Grade, Grader            markup, quantity   numbers as people write them
schema      settings as JSON                 answer             final answers; latex, latex_worker: mathematics
build       settings → grader                sandbox, program   programs, run in pydantic-monty
templates   {{item.x}}                       text, model        similarity, form; a model's score or label
compose     several in one                   tally              agreement with labels
"""

from posttrain.graders.build import build_grader
from posttrain.graders.interface import Grade, Grader, Sample

__all__ = ["Grade", "Grader", "Sample", "build_grader"]
