"""A model that is loaded has the weights of its run, and nothing is drawn for it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from recurra import registry
from recurra.run.checkpoint import save_tensors
from recurra.run.directory import Run
from recurra.run.weights import load_weights
from recurra.systems.language_model.config import LanguageModelConfig, ModelConfig
from recurra.systems.language_model.network import LanguageModel


def test_loading_draws_nothing_and_leaves_every_weight_of_the_run(tmp_path: Path) -> None:
    for tied in (True, False):
        settings = ModelConfig(cell="lstm_peephole", hidden_size=12, num_layers=2, tied=tied)
        trained = LanguageModel(30, settings)
        folder = tmp_path / str(tied)
        folder.mkdir()
        save_tensors(folder / "model.safetensors", trained.state_dict(), {"format": "pt"})
        run = Run(folder, LanguageModelConfig(), registry.find("language-model"))
        before = torch.get_rng_state()
        loaded = load_weights(lambda settings=settings: LanguageModel(30, settings), run)  # type: ignore[misc]
        assert torch.equal(torch.get_rng_state(), before)
        assert not loaded.training
        for (name, one), other in zip(loaded.named_parameters(), trained.parameters(), strict=True):
            assert torch.equal(one, other), name
        ids = torch.randint(30, (5, 2))
        assert torch.equal(loaded(ids).logits, trained.eval()(ids).logits)
    # Outside of loading, weights are drawn as ever.
    assert float(nn.Linear(40, 40).weight.detach().std()) > 0.01
