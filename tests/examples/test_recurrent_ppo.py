"""The recurrent PPO example: it runs, and episodes that end inside a rollout stay apart."""

import functools
import importlib.util
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("gymnasium")
pytest.importorskip("matplotlib")

EXAMPLE = Path(__file__).parents[2] / "examples" / "recurrent_ppo.py"
STEPS, ENVIRONMENTS = 48, 4


@pytest.fixture(scope="module")
def example() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("recurrent_ppo", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def agent(example: ModuleType) -> torch.nn.Module:
    return example.Agent(hidden_size=8)


@pytest.fixture
def player(example: ModuleType, agent: torch.nn.Module) -> Iterator[Any]:
    player = example.Player(agent, ENVIRONMENTS, seed=0)
    yield player
    player.environments.close()


def test_main(example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = tmp_path / "made" / "plot.png"
    arguments = ["--updates=2", f"--envs={ENVIRONMENTS}", f"--steps={STEPS}", f"--out={plot}"]
    example.main(arguments, standalone_mode=False)
    assert plot.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    for line in ("Mean return, first", "Mean return, last", "in one call", "step by step", "Ratio"):
        assert line in printed


def test_a_run_too_short_for_an_episode(
    example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--updates=1", "--envs=1", "--steps=2", f"--out={tmp_path / 'plot.png'}"]
    example.main(arguments, standalone_mode=False)
    assert "none yet" in capsys.readouterr().out


def test_same_seed_same_rollouts(example: ModuleType) -> None:
    rollouts = []
    for _ in range(2):
        torch.manual_seed(3)
        agent = example.Agent(hidden_size=8)
        player = example.Player(agent, ENVIRONMENTS, seed=3)
        example.update(agent, example.make_optimizer(agent), player.play(STEPS))
        rollouts.append(player.play(STEPS))
    for one, other in zip(*rollouts, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("rollouts_before", [0, 1])
def test_both_ways_agree(
    example: ModuleType, agent: torch.nn.Module, player: Any, rollouts_before: int
) -> None:
    """Features and gradients, in the first rollout, which has no state, and in a later one."""
    for _ in range(rollouts_before):
        player.play(STEPS)
    rollout = player.play(STEPS)
    assert (rollout.state is None) == (rollouts_before == 0)
    assert rollout.begins.any()
    features, gradients = [], []
    for way in (example.remember, example.remember_step_by_step):
        features.append(way(agent.memory, rollout))
        loss = (features[-1].sin() * rollout.advantages.unsqueeze(-1)).sum()
        gradients.append(torch.autograd.grad(loss, tuple(agent.memory.parameters())))
    torch.testing.assert_close(features[0], features[1])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_resets_are_the_episodes_run_apart(
    example: ModuleType, agent: torch.nn.Module, player: Any
) -> None:
    player.play(STEPS)
    rollout = player.play(STEPS)
    features = example.remember(agent.memory, rollout)
    episodes = 0
    for row in range(ENVIRONMENTS):
        begins = [0, *rollout.begins[:, row].nonzero().flatten().tolist(), STEPS]
        for begin, end in itertools.pairwise(begins):
            state = rollout.state[:, row] if begin == 0 else None
            alone, _ = agent.memory(rollout.observations[begin:end, row], state)
            torch.testing.assert_close(features[begin:end, row], alone)
            episodes += 1
    assert episodes > 2 * ENVIRONMENTS


def test_the_update_sees_what_the_rollout_saw(
    example: ModuleType, agent: torch.nn.Module, player: Any
) -> None:
    """As long as nothing is learned, the actions are as likely as they were when chosen."""
    for _ in range(3):
        rollout = player.play(STEPS)
        decision, value = agent.read(example.remember(agent.memory, rollout))
        torch.testing.assert_close(decision.log_prob(rollout.actions), rollout.log_probs)
        torch.testing.assert_close(rollout.advantages + value, rollout.targets)


def test_an_episode_begins_with_the_pole_upright(player: Any) -> None:
    """CartPole starts within 0.05 of the middle; one step earlier the pole was about to fall."""
    rollout = player.play(STEPS)
    largest_angle = 0.05 / 0.4189 * 10  # as the example scales it
    angles = rollout.observations[..., 1].abs()
    assert (angles[rollout.begins] < largest_angle + 0.01).all()
    before = torch.cat((rollout.begins[1:], torch.zeros_like(rollout.begins[:1])))
    assert (angles[before] > 2 * largest_angle).all()


def test_time_that_is_up_is_no_failure(
    example: ModuleType, agent: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An episode that was stopped is worth its last reward and what is seen behind its end."""
    limit = 5  # no pole falls so soon
    monkeypatch.setattr(
        example.gymnasium,
        "make_vec",
        functools.partial(example.gymnasium.make_vec, max_episode_steps=limit),
    )
    player = example.Player(agent, ENVIRONMENTS, seed=0)
    last = []

    def step(action: Any) -> Any:
        result = type(player.environments).step(player.environments, action)
        if "final_obs" in result[-1]:
            last.append(torch.tensor(np.stack(result[-1]["final_obs"])))
        return result

    monkeypatch.setattr(player.environments, "step", step)
    rollout = player.play(2 * limit)
    assert player.returns == [limit] * 2 * ENVIRONMENTS
    for begin, seen in zip((0, limit), last, strict=True):
        end = begin + limit
        episode = torch.cat((rollout.observations[begin:end], seen.unsqueeze(0)))
        _, values = agent.read(agent.memory(episode)[0])
        expected = example.REWARD_SCALE + example.DISCOUNT * values[-1]
        torch.testing.assert_close(rollout.targets[end - 1], expected)


def test_advantages_by_their_definition(example: ModuleType) -> None:
    """A sum over the steps that are left in the episode, of each one's surprise."""
    rewards, values = torch.randn(2, 12, 3).unbind()
    after = torch.randn(3)
    ends = torch.rand(12, 3) < 0.3
    advantages = example.estimate_advantages(rewards, values, ends, after)
    following = torch.cat((values[1:], after.unsqueeze(0)))
    surprises = rewards + example.DISCOUNT * following * ~ends - values
    for row in range(3):
        for t in range(12):
            expected, weight = 0.0, 1.0
            for later in range(t, 12):
                expected += weight * surprises[later, row]
                weight *= example.DISCOUNT * example.GAE_LAMBDA
                if ends[later, row]:
                    break
            torch.testing.assert_close(advantages[t, row], expected)
