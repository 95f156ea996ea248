"""Which concept a question is about, and which live metric names resemble it. BM25 beside weighted word overlap."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from aiops.agent.concepts import Concept
from aiops.agent.words import content, domains_of, raw_tokens
from aiops.core.series import MetricMetadata

PRODUCTS = frozenset(
    {
        "redis", "postgres", "mysql", "nginx", "kafka", "rabbitmq", "gpu", "llm", "jvm", "python", "nodejs", "go",
        "grpc", "aiops",
    }
)  # fmt: skip
"""Domains whose concepts are doubtful until their product is named, or the words fit nothing else."""
UNNAMED_PRODUCT = 0.9
OTHER_DOMAIN = 0.6


@dataclass(frozen=True, slots=True)
class Match:
    """A concept's score in [0, 1]; ``recall`` is the share of the question's words that it knows."""

    concept: Concept
    score: float
    recall: float
    exact: bool = False
    """Whether the question's words are those of one of its phrases, none missing and none besides."""


class WordIndex:
    """BM25 over short documents of content words."""

    def __init__(self, documents: Sequence[Sequence[str]]) -> None:
        self._documents = [list(d) for d in documents]

    @cached_property
    def _bm25(self) -> Any:
        import bm25s

        index = bm25s.BM25(method="lucene")
        index.index([d or ["\x00"] for d in self._documents], show_progress=False)
        return index

    @cached_property
    def _vocabulary(self) -> frozenset[str]:
        return frozenset(w for d in self._documents for w in d)

    def scores(self, words: Sequence[str]) -> list[float]:
        known = [w for w in dict.fromkeys(words) if w in self._vocabulary]
        if not known or not self._documents:
            return [0.0] * len(self._documents)
        return [float(x) for x in self._bm25.get_scores(known)]


class ConceptIndex:
    """Scores concepts by BM25 over all their words and by the best-fitting single phrase."""

    def __init__(self, concepts: Sequence[Concept]) -> None:
        self.concepts = tuple(concepts)
        self._phrases: list[list[frozenset[str]]] = []
        documents: list[list[str]] = []
        for concept in self.concepts:
            phrases = [content(p) for p in (*concept.say, *concept.ask, concept.title)]
            self._phrases.append([frozenset(p) for p in phrases if p])
            names = [w for form in concept.forms for m in form.metrics for w in content(m)]
            documents.append([w for p in phrases for w in p] + sorted(set(names)))
        self._known = [frozenset(d) for d in documents]
        spread = Counter(w for d in self._known for w in d)
        self._idf = {w: math.log(1 + len(self.concepts) / n) for w, n in spread.items()}
        self._unknown_idf = math.log(1 + len(self.concepts))
        self._index = WordIndex(documents)

    def _weight(self, words: frozenset[str]) -> float:
        return sum(self._idf.get(w, self._unknown_idf) for w in words)

    def knows(self, word: str) -> bool:
        """Whether any concept is spoken of with this word, whole or in all its parts."""
        parts = content(word)
        return bool(parts) and all(p in self._idf for p in parts)

    def words_of(self, concept: Concept) -> frozenset[str]:
        """Folded words that a concept is spoken of with."""
        return self._known[self.concepts.index(concept)] | concept.all_domains

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        """Words of all concepts' phrases, as written; what spelling is checked against."""
        return frozenset(
            w
            for c in self.concepts
            for p in (*c.say, *c.ask, c.title)
            for w in raw_tokens(p)
            if len(w) > 3 and w.isalpha()
        )

    @staticmethod
    def curated(text: str, concept: Concept) -> bool:
        """Whether the question is, word for word, one that the concept lists: then its meaning was decided by us."""
        asked = raw_tokens(text)
        return any(asked == raw_tokens(whole) for whole in concept.ask)

    def search(self, question: str, limit: int = 8) -> list[Match]:
        words = content(question)
        asked = frozenset(words)
        if not asked:
            return []
        named = domains_of(words)
        total = self._weight(asked)
        bm25 = self._index.scores(words)
        top = max(bm25) or 1.0
        found = []
        for i, concept in enumerate(self.concepts):
            own = asked & concept.all_domains
            best, exact = 0.0, False
            for phrase in self._phrases[i]:
                hit = phrase & asked
                if not hit:
                    continue
                precision = self._weight(hit) / self._weight(phrase)
                recall = self._weight(hit | own) / total
                best = max(best, 2 * precision * recall / (precision + recall))
                exact = exact or (phrase <= asked and asked - phrase <= own)
            recall = self._weight((self._known[i] & asked) | own) / total
            if not recall:
                continue
            score = 0.6 * best + 0.2 * recall + 0.2 * bm25[i] / top
            found.append(Match(concept, score * self._domain_factor(concept, named), recall, exact))
        return sorted(found, key=lambda m: -m.score)[:limit]

    @staticmethod
    def _domain_factor(concept: Concept, named: frozenset[str]) -> float:
        products = named & PRODUCTS
        if products:
            return 1.0 if concept.all_domains & products else OTHER_DOMAIN * 0.8
        if concept.domain in PRODUCTS:
            return UNNAMED_PRODUCT if not named else UNNAMED_PRODUCT * 0.9
        if not named or concept.all_domains & named:
            return 1.0
        return OTHER_DOMAIN + 0.2


class MetricIndex:
    """Live metric names by the words of their name and help."""

    def __init__(self, metrics: Mapping[str, MetricMetadata]) -> None:
        self._names = tuple(metrics)
        self._index = WordIndex([content(n) * 2 + content(m.help) for n, m in metrics.items()])

    def search(self, question: str, limit: int = 5) -> list[tuple[str, float]]:
        """(name, BM25 score), best first."""
        scores = self._index.scores(content(question))
        order = sorted(range(len(scores)), key=lambda i: -scores[i])[:limit]
        return [(self._names[i], scores[i]) for i in order if scores[i] > 0]
