"""Recurrent PPO: an agent balances a pole whose speed it cannot see.

CartPole-v1 with its two velocities hidden: one observation does not tell which way the pole is
falling, so the agent needs a memory. (Cleared before every step, it keeps the pole up for about 50
steps.) The memory is a GRU, used in two ways:

- To play, it is fed step by step: `stream = memory.stream(batch_size)`, `stream(observation)`, and
  `stream.reset(rows)` for the environments in which an episode has ended.
- To learn, it runs over a whole rollout, in which episodes end at any step, in one call:
  `memory(observations, state, reset=begins, reset_to="default")`. Where an episode begins, neither
  state nor gradient comes through.

Run it, about a minute on one core:

    pip install "gymnasium>=1.1" matplotlib
    python examples/recurrent_ppo.py

It draws the return over time, and prints what was learned and how long an update takes beside the
usual loop over the steps.
"""

import copy
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import click
import gymnasium
import numpy as np
import torch
from gymnasium import wrappers
from gymnasium.vector import AutoresetMode, VectorEnv
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LinearLR

import openrnn

DISCOUNT = 0.99
REWARD_SCALE = 1 - DISCOUNT  # values up to 1: larger ones would drown the policy's gradient
GAE_LAMBDA = 0.95
CLIP = 0.2
VALUE_WEIGHT = 0.5
ENTROPY_BONUS = 0.01
GRADIENT_NORM = 0.5
LEARNING_RATE = 2e-3
EPOCHS = 8  # gradient steps in an update, each on the whole rollout
RECENT = 100  # episodes in a mean return
HIGHEST = 500  # CartPole-v1 stops an episode after so many steps, each with a reward of 1


class Agent(nn.Module):
    """A memory, and what is read from it: what to do, and how good things look."""

    def __init__(self, hidden_size: int = 64) -> None:
        super().__init__()
        self.memory = openrnn.GRU(2, hidden_size)
        self.policy = nn.Linear(hidden_size, 2)
        self.value = nn.Linear(hidden_size, 1)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 1:
                nn.init.zeros_(parameter)
            else:  # a small policy tries both actions equally often at first
                nn.init.orthogonal_(parameter, gain=0.01 if name == "policy.weight" else 1.0)

    def read(self, features: Tensor) -> tuple[Categorical, Tensor]:
        return Categorical(logits=self.policy(features)), self.value(features).squeeze(-1)


class Rollout(NamedTuple):
    """T steps in each of B environments, (T, B), or (T, B, 2) for the observations."""

    observations: Tensor
    begins: Tensor  # bool: whether an episode begins with this step
    actions: Tensor
    log_probs: Tensor
    advantages: Tensor
    targets: Tensor  # what the values should have been
    state: Tensor | None  # of the memory before the first step, (1, B, H); None is zeros


def make_environments(count: int) -> VectorEnv:
    def hide_velocities(env: gymnasium.Env) -> gymnasium.Env:
        low, high = env.observation_space.low[::2], env.observation_space.high[::2]
        space = gymnasium.spaces.Box(low, high)  # of the cart's position and the pole's angle
        env = wrappers.TransformObservation(env, lambda observation: observation[::2], space)
        # A step turns the pole by hundredths of a radian, which a network would hardly see.
        return wrappers.RescaleObservation(env, np.float32(-10), np.float32(10))

    return gymnasium.make_vec(
        "CartPole-v1",
        count,
        vectorization_mode="sync",
        # The step that ends an episode returns the first observation of the next one. Gymnasium's
        # default spends another step on that, which belongs to no episode.
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
        wrappers=[hide_velocities, wrappers.RecordEpisodeStatistics],
    )


class Player:
    """Plays in all environments side by side, and goes on from one rollout to the next."""

    def __init__(self, agent: Agent, count: int, seed: int) -> None:
        self.agent = agent
        self.environments = make_environments(count)
        self.observation = torch.from_numpy(self.environments.reset(seed=seed)[0])
        self.stream = agent.memory.stream(batch_size=count)
        self.steps = 0  # of all environments together
        self.ends: list[int] = []  # of each episode that ended: the steps so far,
        self.returns: list[float] = []  # and the sum of its rewards

    @torch.no_grad()
    def play(self, length: int) -> Rollout:
        state = self.stream.state
        steps = []
        for _ in range(length):
            decision, value = self.agent.read(self.stream(self.observation))
            action = decision.sample()
            seen, reward, terminated, truncated, info = self.environments.step(action.numpy())
            ended, stopped = terminated | truncated, truncated & ~terminated
            reward = REWARD_SCALE * torch.from_numpy(reward).float()
            if stopped.any():  # time was up, but the pole was up too: what was to come counts
                last = seen.copy()
                last[stopped] = np.stack(info["final_obs"][stopped])
                future = DISCOUNT * self.foresee(torch.from_numpy(last))
                reward += torch.from_numpy(stopped) * future
            end = torch.from_numpy(ended)
            steps.append((self.observation, end, action, decision.log_prob(action), reward, value))
            self.observation = torch.from_numpy(seen)
            self.steps += len(ended)
            if ended.any():
                self.stream.reset(end)
                self.returns += info["final_info"]["episode"]["r"][ended].tolist()
                self.ends += [self.steps] * (len(self.returns) - len(self.ends))
        columns = (torch.stack(column) for column in zip(*steps, strict=True))
        observations, ends, actions, log_probs, rewards, values = columns
        # An episode begins behind each end. For the first step, `state` has been reset already.
        begins = torch.cat((torch.zeros_like(ends[:1]), ends[:-1]))
        advantages = estimate_advantages(rewards, values, ends, self.foresee(self.observation))
        targets = advantages + values
        return Rollout(observations, begins, actions, log_probs, advantages, targets, state)

    def foresee(self, observation: Tensor) -> Tensor:
        """The value of what is seen next. The stream stays where it is."""
        features, _ = self.agent.memory(observation.unsqueeze(0), self.stream.state)
        return self.agent.read(features.squeeze(0))[1]


def estimate_advantages(rewards: Tensor, values: Tensor, ends: Tensor, after: Tensor) -> Tensor:
    """Generalized advantage estimation. `after` is the value behind the last step, (B,)."""
    advantages = torch.empty_like(values)
    advantage = torch.zeros_like(after)
    for t in reversed(range(len(values))):
        discount = DISCOUNT * ~ends[t]  # nothing comes after an end
        surprise = rewards[t] + discount * after - values[t]
        advantage = surprise + discount * GAE_LAMBDA * advantage
        advantages[t], after = advantage, values[t]
    return advantages


def remember(memory: openrnn.GRU, rollout: Rollout) -> Tensor:
    """The features of all steps, (T, B, H), in one call.

    "default": an episode begins with zeros, not with the state from the last rollout.
    """
    x, begins = rollout.observations, rollout.begins
    features, _ = memory(x, rollout.state, reset=begins, reset_to="default")
    return features


def remember_step_by_step(memory: openrnn.GRU, rollout: Rollout) -> Tensor:
    """The same in the usual loop over the steps, for comparison."""
    state, features = rollout.state, []
    if state is None:
        state = torch.zeros(1, rollout.begins.size(1), memory.hidden_size)
    for observation, begins in zip(rollout.observations, rollout.begins, strict=True):
        state = torch.where(begins.unsqueeze(-1), 0.0, state)
        feature, state = memory(observation.unsqueeze(0), state)
        features.append(feature)
    return torch.cat(features)


def make_optimizer(agent: Agent) -> Optimizer:
    return Adam(agent.parameters(), lr=LEARNING_RATE, eps=1e-5)


def update(
    agent: Agent, optimizer: Optimizer, rollout: Rollout, way: Callable[..., Tensor] = remember
) -> None:
    advantages = rollout.advantages - rollout.advantages.mean()
    advantages /= advantages.std() + 1e-8
    for _ in range(EPOCHS):
        decision, value = agent.read(way(agent.memory, rollout))
        ratio = (decision.log_prob(rollout.actions) - rollout.log_probs).exp()
        clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
        policy_loss = -torch.minimum(ratio * advantages, clipped * advantages).mean()
        value_loss = (value - rollout.targets).square().mean()
        entropy = decision.entropy().mean()
        loss = policy_loss + VALUE_WEIGHT * value_loss - ENTROPY_BONUS * entropy
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(agent.parameters(), GRADIENT_NORM)
        optimizer.step()


def time_updates(agent: Agent, rollout: Rollout, times: int = 7) -> tuple[float, float]:
    """Median seconds of an update: in one call, and step by step."""
    ways = (remember, remember_step_by_step)
    torch.testing.assert_close(*(way(agent.memory, rollout) for way in ways))
    seconds = np.empty((1 + times, 2))
    for turn, column in np.ndindex(seconds.shape):  # by turns: both meet the same machine
        learner = copy.deepcopy(agent)
        optimizer = make_optimizer(learner)
        start = time.perf_counter()
        update(learner, optimizer, rollout, ways[column])
        seconds[turn, column] = time.perf_counter() - start
    one_call, step_by_step = np.median(seconds[1:], axis=0)  # the first turn may compile
    return one_call, step_by_step


def draw(path: Path, steps: list[int], returns: list[float]) -> None:
    counts = range(1, 1 + len(returns))
    means = [statistics.fmean(returns[max(0, n - RECENT) : n]) for n in counts]
    # Figure and not pyplot: no window.
    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.axhline(HIGHEST, color="#6b7280", lw=0.8, ls="--", label="the highest possible")
    axes.plot(steps, returns, "o", color="#9ca3af", ms=3, mew=0, alpha=0.6, label="an episode")
    axes.plot(steps, means, color="#d1495b", lw=2, label=f"mean of the last {RECENT}")
    axes.set(xlabel="environment steps", ylabel="episode return", ylim=(0, 1.05 * HIGHEST))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.margins(x=0.01)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title("Recurrent PPO on CartPole-v1 with hidden velocities", loc="left")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def show_mean(returns: list[float]) -> str:
    return f"{statistics.fmean(returns):.0f}" if returns else "none yet"


@click.command(context_settings={"show_default": True})
@click.option("--updates", type=click.IntRange(1), default=100, help="Rollouts to learn from.")
@click.option("--envs", type=click.IntRange(1), default=16, help="Environments side by side.")
@click.option("--steps", type=click.IntRange(2), default=128, help="Steps in a rollout.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Start of all random numbers.")
@click.option("--out", type=click.Path(path_type=Path), default="recurrent_ppo.png", help="Plot.")
def main(updates: int, envs: int, steps: int, seed: int, out: Path) -> None:
    """Train an agent on CartPole-v1 with hidden velocities by recurrent PPO."""
    torch.set_num_threads(1)  # there is so little to compute that more would wait for each other
    torch.manual_seed(seed)
    agent = Agent()
    player = Player(agent, envs, seed)
    optimizer = make_optimizer(agent)
    schedule = LinearLR(optimizer, 1, 0, total_iters=updates)
    with Progress() as progress:
        task = progress.add_task("", total=updates)
        for _ in range(updates):
            rollout = player.play(steps)
            update(agent, optimizer, rollout)
            schedule.step()
            recent = show_mean(player.returns[-RECENT:])
            progress.update(task, advance=1, description=f"Mean return {recent}")
    draw(out, player.ends, player.returns)
    one_call, step_by_step = time_updates(agent, rollout)
    table = Table("Measured", "Result")
    for when, returns in (("first", player.returns[:RECENT]), ("last", player.returns[-RECENT:])):
        table.add_row(f"Mean return, {when} {RECENT} episodes", show_mean(returns))
    table.add_row("Time of an update, in one call", f"{1000 * one_call:.0f} ms")
    table.add_row("The same update, step by step", f"{1000 * step_by_step:.0f} ms")
    table.add_row("Ratio", f"{step_by_step / one_call:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
