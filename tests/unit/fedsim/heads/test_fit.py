"""The Gaussian head."""

import numpy as np

from fedsim.data import Decoder, load_dataset
from fedsim.testing import run_rounds


def embeddings(model, images):
    pixels, _ = Decoder(32, model.backbone.interpolation, 1)(images, np.arange(len(images)))
    return model.embed(model.prefix_features(pixels)).numpy().astype(float)


def test_fit_is_linear_discriminant_analysis(small_config):
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    config = small_config(
        "head.name=fit", "head.shrinkage=0.2", "partition.name=dirichlet", "partition.alpha=0.1", "data.validation=0"
    )
    _, federation, _ = run_rounds(config)
    dataset, y = load_dataset(config.data, config.seed), load_dataset(config.data, config.seed).train.labels
    x, test_x = (embeddings(federation.model, split.images) for split in (dataset.train, dataset.test))
    reference = LinearDiscriminantAnalysis(solver="lsqr", priors=np.bincount(y) / len(y), shrinkage=None)
    means = np.stack([x[y == c].mean(0) for c in range(10)])
    centred = x - means[y]
    covariance = centred.T @ centred / len(x)
    covariance = 0.8 * covariance + 0.2 * np.trace(covariance) / 128 * np.eye(128)
    reference.classes_, reference.coef_ = np.arange(10), np.linalg.solve(covariance, means.T).T
    reference.intercept_ = np.log(np.bincount(y) / len(y)) - 0.5 * (reference.coef_ * means).sum(1)
    head = federation.model.head_state()
    ours = (test_x @ head["weight"].T + head["bias"]).argmax(1)
    assert (ours == reference.predict(test_x)).mean() > 0.995


def test_fit_puts_up_with_labels_that_no_client_has(small_config):
    config = small_config("head.name=fit", "data.train_samples=20", "partition.clients=2")
    assert np.isfinite(run_rounds(config)[2][0].round["loss"])
