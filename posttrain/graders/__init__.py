"""Graders: programs that mark a completion, one code for training reward, evaluation and audit (docs/graders.md).

interface    Sample, Grade, Grader           extraction, last_number   where the final answer stands
schema       settings as JSON                characters, markup        what changes no answer
build        settings → grader               quantity, numbers, units  numbers as people write them
templates    {{item.x}}                      choices                   multiple choice
compose      several in one                  answer                    final answers; latex, latex_worker: mathematics
tally        agreement with labels           sandbox, program          programs, run in pydantic-monty
                                             text, model               similarity, form; a model's score or label
"""

from posttrain.graders.build import build_grader
from posttrain.graders.interface import Grade, Grader, Sample

__all__ = ["Grade", "Grader", "Sample", "build_grader"]
