"""What many would write: FastAPI, a NumPy product with all item vectors, `argpartition`. Run as a program by the part `load`.

It is given the query vectors ready made, so it neither reads events nor runs a model: it has less to do than `xdm serve`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np


def create(vectors: np.ndarray, queries: dict[str, np.ndarray]) -> Any:
    """An application with one operation: the best of ``vectors`` ``[N, d]`` for the query of a user."""
    from fastapi import FastAPI
    from pydantic import BaseModel

    class Question(BaseModel):
        user_id: str
        k: int = 50

    class Scored(BaseModel):
        item_id: int
        score: float
        rank: int

    class Answer(BaseModel):
        user_id: str
        items: list[Scored]

    app = FastAPI()

    def recommend(question: Question) -> Answer:
        scores = vectors @ queries[question.user_id]
        best = np.argpartition(scores, -question.k)[-question.k :]
        best = best[np.argsort(-scores[best])]
        items = [Scored(item_id=int(item), score=float(scores[item]), rank=rank) for rank, item in enumerate(best, 1)]
        return Answer(user_id=question.user_id, items=items)

    # By hand: with postponed annotations FastAPI finds no classes that are local to a function.
    recommend.__annotations__ = {"question": Question, "return": Answer}
    app.post("/v1/recommend")(recommend)
    return app


def main() -> None:
    import uvicorn

    parser = argparse.ArgumentParser()
    parser.add_argument("vectors", type=Path)
    parser.add_argument("queries", type=Path)
    parser.add_argument("users", type=Path)
    parser.add_argument("port", type=int)
    asked = parser.parse_args()
    queries = dict(zip(json.loads(asked.users.read_text()), np.load(asked.queries), strict=True))
    uvicorn.run(create(np.load(asked.vectors), queries), port=asked.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
