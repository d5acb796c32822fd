"""The vectorizer in scikit-learn: pipelines, searches over options, clones, files, and scikit-learn's own checks."""

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.docpages import run_page

pytest.importorskip("sklearn", exc_type=ImportError)
pd = pytest.importorskip("pandas")

import joblib
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.utils import estimator_checks, get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted, validate_data

from edge_embed import Embedder, TruncationWarning
from edge_embed.errors import BundleMismatchError, InputError
from edge_embed.integrations.sklearn import EdgeVectorizer

pytestmark = pytest.mark.frameworks

SEA = ["the ferry leaves the harbour", "a ship on the sea", "sailors and their boat", "waves at the beach"]
PETS = ["a cat sleeps on the sofa", "the dog wants a walk", "kittens drink milk", "my puppy barks"]
TEXTS, LABELS = SEA + PETS, ["sea"] * 4 + ["pets"] * 4


def test_vectors(prompted: Embedder) -> None:
    """Those of the Embedder, with its roles, prompts and dimensions."""
    for options, expected in (
        ({}, prompted.encode(TEXTS)),
        ({"role": "query"}, prompted.encode_query(TEXTS)),
        ({"prompt": "about: "}, prompted.encode(TEXTS, prompt="about: ")),
        ({"truncate_dim": 5}, prompted.encode(TEXTS, truncate_dim=5)),
    ):
        vectorizer = EdgeVectorizer(prompted.path, threads=1, **options)  # type: ignore[arg-type]
        found = vectorizer.fit_transform(TEXTS)
        assert found.dtype == np.float32
        assert (found == expected).all()
        assert (vectorizer.transform(TEXTS[:1]) == expected[:1]).all()
        assert vectorizer.n_features_out_ == expected.shape[1]
        assert vectorizer.fit(TEXTS).transform([]).shape == (0, expected.shape[1])


def test_texts_in_arrays_and_frames() -> None:
    vectorizer = EdgeVectorizer("static", threads=1)
    expected = vectorizer.fit_transform(TEXTS)
    frame = pd.DataFrame({"text": TEXTS, "n": range(8)})
    for given in (np.array(TEXTS), np.array(TEXTS, object), tuple(TEXTS), iter(TEXTS), frame["text"]):
        assert (vectorizer.transform(given) == expected).all()
    assert (vectorizer.fit_transform(iter(TEXTS)) == expected).all()
    columns = ColumnTransformer([("text", EdgeVectorizer("static", threads=1), "text")], remainder="passthrough")
    assert columns.fit_transform(frame).shape == (8, expected.shape[1] + 1)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("one text", "got str: write"),
        (["a", None], "text 1 is NoneType"),
        (["a", float("nan")], "text 1 is float"),
        (np.array([["a"], ["b"]]), "give one column"),
        (np.zeros(3), "text 0 is float64"),
        (pd.DataFrame({"text": ["a"]}), "give one column"),
        (3, "got int"),
        ({"a", "b"}, "got set"),
        ({"a": "b"}, "got dict"),
        (["\ud800"], "text 0"),
    ],
)
def test_what_is_no_list_of_texts(texts: Any, message: str) -> None:
    vectorizer = EdgeVectorizer("static", threads=1).fit(TEXTS)
    for call in (vectorizer.transform, vectorizer.fit_transform):
        with pytest.raises(InputError, match=message):
            call(texts)


def test_long_texts_are_named() -> None:
    """What the model does not read of a text is said, unless it is not to be."""
    texts = ["short", "word " * 600]
    with pytest.warns(TruncationWarning, match="text 1"):
        EdgeVectorizer("static", threads=1).fit_transform(texts)
    EdgeVectorizer("static", threads=1, on_truncation="ignore").fit_transform(texts)


def test_a_pipeline_learns() -> None:
    """From eight texts it knows what others are about; names of features and set_output are scikit-learn's."""
    pipeline = make_pipeline(EdgeVectorizer("static", threads=1), LogisticRegression(C=10))
    pipeline.fit(TEXTS, LABELS)
    assert list(pipeline.predict(["the captain of a vessel", "feeding a hamster"])) == ["sea", "pets"]
    vectorizer = pipeline[0]
    names = vectorizer.get_feature_names_out()
    assert names[:2].tolist() == ["edgevectorizer0", "edgevectorizer1"]
    assert len(names) == vectorizer.n_features_out_
    frame = EdgeVectorizer("static", threads=1, truncate_dim=4).set_output(transform="pandas").fit_transform(TEXTS)
    assert frame.columns.tolist() == [f"edgevectorizer{i}" for i in range(4)]
    union = FeatureUnion(
        [("a", EdgeVectorizer("static", truncate_dim=4)), ("b", EdgeVectorizer("static", truncate_dim=2))]
    )
    assert union.fit_transform(TEXTS).shape == (8, 6)
    assert union.get_feature_names_out()[-1] == "b__edgevectorizer1"


def test_rows_of_frames_keep_their_index() -> None:
    """A ColumnTransformer joins its parts by it: without, the texts of a shuffled frame would stand in other rows."""
    frame = pd.DataFrame({"text": TEXTS, "n": range(8)}).sample(frac=1, random_state=0)
    vectors = EdgeVectorizer("static", threads=1, truncate_dim=4)
    expected = vectors.fit_transform(frame["text"])
    columns = ColumnTransformer([("text", vectors, "text")], remainder="passthrough").set_output(transform="pandas")
    for found in (columns.fit_transform(frame), columns.transform(frame)):
        assert found["remainder__n"].tolist() == frame["n"].tolist() == found.index.tolist()
        assert (found.iloc[:, :4].to_numpy() == expected).all()
    assert vectors.set_output(transform="pandas").fit_transform(TEXTS).index.tolist() == list(range(8))
    with config_context(transform_output="pandas"):
        again = EdgeVectorizer("static", threads=1, truncate_dim=4).fit_transform(frame["text"])
    assert again.index.tolist() == frame.index.tolist()


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_search_over_options(jobs: int) -> None:
    """In this process and in workers, which get the bundle's name and load it themselves."""
    pipeline = Pipeline([("embed", EdgeVectorizer("static", threads=1)), ("learn", LogisticRegression(C=10))])
    dims = [2, 64, None]
    search = GridSearchCV(pipeline, {"embed__truncate_dim": dims}, cv=2, n_jobs=jobs, error_score="raise")
    search.fit(TEXTS, LABELS)
    assert len(search.cv_results_["mean_test_score"]) == len(dims)
    best = search.best_params_["embed__truncate_dim"]
    assert search.best_estimator_["embed"].truncate_dim == best
    each = [
        cross_val_score(clone(pipeline).set_params(embed__truncate_dim=dim), TEXTS, LABELS, cv=2).mean() for dim in dims
    ]
    assert search.cv_results_["mean_test_score"].tolist() == each


def test_clones_and_files(tmp_path: Path, prompted: Embedder) -> None:
    """A copy gives the same vectors, from a small file; a clone is not fitted."""
    vectorizer = EdgeVectorizer(prompted.path, role="query", threads=1).fit(TEXTS)
    expected = vectorizer.transform(TEXTS)
    joblib.dump(vectorizer, tmp_path / "saved.joblib")
    assert (tmp_path / "saved.joblib").stat().st_size < 2000
    for copy in (joblib.load(tmp_path / "saved.joblib"), pickle.loads(pickle.dumps(vectorizer))):  # noqa: S301 - ours
        assert (copy.transform(TEXTS) == expected).all()
    fresh = clone(vectorizer)
    assert fresh.get_params() == vectorizer.get_params()
    for call in (lambda: fresh.transform(TEXTS), fresh.get_feature_names_out):
        with pytest.raises(NotFittedError):
            call()


def test_another_bundle_in_its_place(tmp_path: Path, prompted: Embedder, embedder: Embedder) -> None:
    """What was saved does not go on with vectors that the next step was not fitted to."""
    shutil.copytree(prompted.path, tmp_path / "bundle")
    saved = pickle.dumps(EdgeVectorizer(tmp_path / "bundle", threads=1).fit(TEXTS))
    shutil.rmtree(tmp_path / "bundle")
    shutil.copytree(embedder.path, tmp_path / "bundle")
    moved = pickle.loads(saved).set_params(threads=2)  # noqa: S301 - ours
    with pytest.raises(BundleMismatchError, match=r"was fitted with the bundle .* again"):
        moved.transform(TEXTS)
    assert moved.fit(TEXTS).transform(TEXTS[:1]).shape == (1, embedder.dim)


def test_options_are_checked_when_it_fits() -> None:
    for options in (
        {"truncate_dim": 0},
        {"truncate_dim": 10**6},
        {"role": 3},
        {"on_truncation": "cut"},
        {"threads": 0},
    ):
        with pytest.raises(InputError):
            EdgeVectorizer("static", **options).fit(TEXTS)  # type: ignore[arg-type]


class Rows(EdgeVectorizer):
    """The vectorizer with rows of numbers as texts, "0.5 -1.25 3": scikit-learn's checks give an estimator numbers."""

    def fit(self, X: Any, y: object = None) -> "Rows":
        super().fit(_texts(validate_data(self, X)), y)
        return self

    def fit_transform(self, X: Any, y: object = None) -> Any:
        return self.fit(X, y).transform(X)

    def transform(self, X: Any) -> Any:
        check_is_fitted(self)
        return super().transform(_texts(validate_data(self, X, reset=False)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.string, tags.input_tags.one_d_array = True, False, False
        return tags


def _texts(numbers: Any) -> list[str]:
    return [" ".join(f"{number:.6g}" for number in row) for row in numbers]


@parametrize_with_checks([Rows("static", threads=1, truncate_dim=8)])
def test_scikit_learn_s_own_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_do_not_raise_errors_in_init_or_set_params,
        estimator_checks.check_estimator_cloneable,
        estimator_checks.check_estimator_repr,
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_mixin_order,
        estimator_checks.check_no_attributes_set_in_init,
        estimator_checks.check_parameters_default_constructible,
        estimator_checks.check_set_params,
        estimator_checks.check_valid_tag_types,
    ],
    ids=lambda check: check.__name__,
)
def test_checks_without_data(check: Any) -> None:
    """Those that give an estimator nothing, of the vectorizer itself."""
    check("EdgeVectorizer", EdgeVectorizer("static", threads=1))


def test_check_estimator() -> None:
    """It says itself that it tests no estimators of texts."""
    with pytest.warns(SkipTestWarning, match="Can't test estimator EdgeVectorizer"):
        estimator_checks.check_estimator(EdgeVectorizer("static", threads=1))
    assert get_tags(EdgeVectorizer()).input_tags.string


def test_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block of docs/scikit-learn.md, in order."""
    assert run_page("scikit-learn.md", tmp_path, monkeypatch) >= 1
