"""Recurrent PPO: an agent that balances a pole whose speed it cannot see.

CartPole-v1 with both velocities hidden: a single observation does not tell which way the pole is
falling, so the agent has to remember. Its memory is a GRU, used in two ways:

- To play, it is fed one step at a time: `stream = memory.stream(batch_size)`, `stream(x)`, and
  `stream.reset(rows)` where an episode has ended.
- To learn, it runs over a whole rollout, in which episodes end at any step, in one call:
  `memory(x, state, reset=begins, reset_to="default")`. No state and no gradient crosses a reset.

Run it, two minutes on one core:

    pip install gymnasium matplotlib
    python examples/recurrent_ppo.py
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
import openrnn
import torch
from gymnasium import wrappers
from gymnasium.vector import AutoresetMode, VectorEnv
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

DISCOUNT = 0.99
GAE_LAMBDA = 0.95
CLIP = 0.2
REWARD_SCALE = 0.05
ENTROPY_BONUS = 0.01
VALUE_WEIGHT = 0.5
GRADIENT_NORM = 0.5
LEARNING_RATE = 2e-3
EPOCHS = 8
RECENT = 100  # episodes that a mean return is taken over
LONGEST = 500  # steps, and so the highest return: there CartPole-v1 truncates an episode


class Agent(nn.Module):
    """A memory, and what it says: how good each action is, and how good the situation."""

    def __init__(self, hidden_size: int = 64) -> None:
        super().__init__()
        self.memory = openrnn.GRU(2, hidden_size)
        self.policy = nn.Linear(hidden_size, 2)
        self.value = nn.Linear(hidden_size, 1)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 1:
                nn.init.zeros_(parameter)
            else:
                # Nearly equal chances for both actions at the start.
                nn.init.orthogonal_(parameter, gain=0.01 if "policy" in name else 1.0)

    def act(self, features: Tensor) -> torch.distributions.Categorical:
        return torch.distributions.Categorical(logits=self.policy(features))

    def judge(self, features: Tensor) -> Tensor:
        return self.value(features).squeeze(-1)


class Rollout(NamedTuple):
    """T steps of B environments: all are (T, B) but the observations, and the state before."""

    observations: Tensor
    begins: Tensor  # bool: an episode begins with this step
    actions: Tensor
    log_probs: Tensor
    advantages: Tensor
    returns: Tensor
    state: Tensor | None  # (1, B, H); None before the very first step


def make_environments(count: int) -> VectorEnv:
    def hide_velocities(env: gymnasium.Env) -> gymnasium.Env:
        seen = [0, 2]  # position, not velocity, angle, not angular velocity
        low, high = env.observation_space.low[seen], env.observation_space.high[seen]
        space = gymnasium.spaces.Box(low, high)
        return wrappers.TransformObservation(env, lambda observation: observation[seen], space)

    def rescale(env: gymnasium.Env) -> gymnasium.Env:
        # In radians, a step changes the angle by no more than hundredths.
        return wrappers.RescaleObservation(env, np.float32(-10), np.float32(10))

    return gymnasium.make_vec(
        "CartPole-v1",
        count,
        vectorization_mode="sync",
        # An episode begins in the step in which the last one ends. With gymnasium's default it
        # takes a step more, which is in no episode and which nobody should learn from.
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
        wrappers=[hide_velocities, rescale, wrappers.RecordEpisodeStatistics],
    )


class Player:
    def __init__(self, agent: Agent, count: int, seed: int) -> None:
        self.agent = agent
        self.envs = make_environments(count)
        self.stream = agent.memory.stream(batch_size=count)
        self.observation = torch.from_numpy(self.envs.reset(seed=seed)[0])
        self.steps = 0
        self.episodes: list[tuple[int, float]] = []  # steps so far, and return, of each that ended

    def expect(self, observation: Tensor) -> Tensor:
        """The value of what would come next, without taking the step in the stream."""
        features, _ = self.agent.memory(observation.unsqueeze(0), self.stream.state)
        return self.agent.judge(features[0])

    @torch.no_grad()
    def play(self, steps: int) -> Rollout:
        state = self.stream.state
        rows = []
        for _ in range(steps):
            features = self.stream(self.observation)
            distribution = self.agent.act(features)
            action = distribution.sample()
            observation, reward, terminated, truncated, info = self.envs.step(action.numpy())
            reward = torch.from_numpy(reward).float() * REWARD_SCALE
            ended = torch.from_numpy(terminated | truncated)
            self.steps += len(ended)
            if truncated.any():
                # The time was up, but nothing had gone wrong: what would have come counts.
                final = observation.copy()
                final[truncated] = np.stack(info["final_obs"][truncated])
                expected = self.expect(torch.from_numpy(final))
                reward += DISCOUNT * expected * torch.from_numpy(truncated)
            if ended.any():
                self.stream.reset(ended)
                for score in info["final_info"]["episode"]["r"][ended.numpy()]:
                    self.episodes.append((self.steps, float(score)))
            rows.append(
                (
                    self.observation,
                    ended,
                    action,
                    distribution.log_prob(action),
                    reward,
                    self.agent.judge(features),
                )
            )
            self.observation = torch.from_numpy(observation)
        observations, ends, actions, log_probs, rewards, values = map(
            torch.stack, zip(*rows, strict=True)
        )
        # An episode begins after each end. The state is as it is before the first step: an end
        # just before that has been seen to by `stream.reset`.
        begins = torch.cat((torch.zeros_like(ends[:1]), ends[:-1]))
        advantages = estimate_advantages(rewards, values, ends, self.expect(self.observation))
        return Rollout(
            observations, begins, actions, log_probs, advantages, advantages + values, state
        )


def estimate_advantages(rewards: Tensor, values: Tensor, ends: Tensor, after: Tensor) -> Tensor:
    """Generalized advantage estimation, from the last step back."""
    advantages = torch.zeros_like(values)
    advantage = torch.zeros_like(after)
    for t in reversed(range(len(values))):
        goes_on = (~ends[t]).float()
        surprise = rewards[t] + DISCOUNT * goes_on * after - values[t]
        advantage = surprise + DISCOUNT * GAE_LAMBDA * goes_on * advantage
        advantages[t], after = advantage, values[t]
    return advantages


def remember(memory: nn.Module, rollout: Rollout) -> Tensor:
    """The features of all steps, in one call."""
    features, _ = memory(
        rollout.observations, rollout.state, reset=rollout.begins, reset_to="default"
    )
    return features


def remember_step_by_step(memory: nn.Module, rollout: Rollout) -> Tensor:
    """The same in the usual loop, to compare with."""
    state = rollout.state
    if state is None:
        state = torch.zeros(1, rollout.begins.size(1), memory.hidden_size)
    features = []
    for x, begins in zip(rollout.observations, rollout.begins, strict=True):
        state = torch.where(begins.unsqueeze(-1), 0.0, state)
        feature, state = memory(x.unsqueeze(0), state)
        features.append(feature)
    return torch.cat(features)


def learn(
    agent: Agent,
    optimizer: torch.optim.Optimizer,
    rollout: Rollout,
    remember: Callable[[nn.Module, Rollout], Tensor] = remember,
) -> None:
    advantages = rollout.advantages
    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    for _ in range(EPOCHS):
        features = remember(agent.memory, rollout)
        distribution = agent.act(features)
        ratio = (distribution.log_prob(rollout.actions) - rollout.log_probs).exp()
        clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
        policy_loss = -torch.min(ratio * advantages, clipped * advantages).mean()
        value_loss = (agent.judge(features) - rollout.returns).square().mean()
        entropy = distribution.entropy().mean()
        loss = policy_loss + VALUE_WEIGHT * value_loss - ENTROPY_BONUS * entropy
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(agent.parameters(), GRADIENT_NORM)
        optimizer.step()
