"""What is too big for one step: several at a time, or the task of an agent. The household runs both as routines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field, ValidationError

from roomtone.core.dialog import Noun
from roomtone.core.errors import ToolError
from roomtone.core.persona import Persona
from roomtone.core.routine import Routine
from roomtone.core.tooling import ToolSpec
from roomtone.engines.tools import Result, Traits
from roomtone.mind import Household
from roomtone.mind.tools.allowed import allowed
from roomtone.mind.tools.built_in import BuiltIn, schema, wrong

STEPS = 8
"""Steps of a plan, at most: a model that wants more has not understood."""

PLAN, ASK = "plan.run", "agent.ask"

PLAN_S, STEP_S = 120.0, 60.0
"""Seconds that a plan, and a step of it, may take: somebody waits."""


class PlannedStep(Noun):
    """A step of a plan: a tool with its arguments, or a prompt, which an agent may answer."""

    id: str = Field(pattern=r"^[a-z0-9_-]{1,40}$")
    tool: str = Field("", max_length=80)
    arguments: dict[str, Any] = Field(default_factory=dict)
    prompt: str = Field("", max_length=2000, description="or a prompt; {{id}} is that step's result")
    agent: str = Field("", max_length=60, description="who answers the prompt")
    needs: tuple[str, ...] = Field((), max_length=STEPS)


class Plan(Noun):
    """Steps that may need each other."""

    steps: tuple[PlannedStep, ...] = Field(min_length=1, max_length=STEPS)


class Task(Noun):
    """What an agent is asked for."""

    agent: str = Field(min_length=1, max_length=60)
    request: str = Field(min_length=1, max_length=2000, description="all that the agent needs to know")


async def run_plan(plan: Plan, house: Household) -> Result:
    """Run a plan whose every step is allowed, and tell what each came to."""
    agents = house.agents() if allowed(house.persona, ASK) else ()
    for step in plan.steps:
        if step.tool and (step.tool in (PLAN, ASK) or step.tool not in house.tools()):
            raise ToolError(f"{step.id}: there is no tool '{step.tool}' for a plan")
        if step.agent and step.agent not in [agent.id for agent in agents]:
            raise ToolError(f"{step.id}: {_no_agent(step.agent, agents)}")
    if len({step.id for step in plan.steps}) < len(plan.steps):
        raise ToolError("two steps have the same id")
    return Result(await house.run_steps(_routine("plan", {step.id: _keys(step) for step in plan.steps})))


def _keys(step: PlannedStep) -> dict[str, Any]:
    keys = {"tool": step.tool, "prompt": step.prompt, "persona": step.agent, "arguments": step.arguments}
    return {**{key: value for key, value in keys.items() if value}, "needs": step.needs, "timeout_s": STEP_S}


def _routine(name: str, steps: dict[str, Any]) -> Routine:
    try:
        return Routine.model_validate({"name": name, "steps": steps})
    except ValidationError as error:
        raise ToolError(wrong(error.errors(include_url=False)[0])) from error


async def ask_agent(task: Task, house: Household) -> Result:
    """Let an agent do a task, and tell what came of it."""
    agents = house.agents()
    if task.agent not in [agent.id for agent in agents]:
        raise ToolError(_no_agent(task.agent, agents))
    step = {"prompt": task.request, "persona": task.agent, "timeout_s": STEP_S}
    return Result(await house.run_steps(_routine("task", {"answer": step})))


def _no_agent(name: str, agents: Sequence[Persona]) -> str:
    return f"there is no agent '{name}'; there are {', '.join(agent.id for agent in agents) or 'none'}"


def errands(agents: Sequence[Persona]) -> list[BuiltIn]:
    """Return the tools that give errands to others: plans, and where there are agents, tasks for those."""
    traits = Traits(changes=True, outside=True, timeout_s=PLAN_S)
    told = "Do several things at once or one after the other, and tell the results"
    steps = {"type": "array", "items": schema(PlannedStep)}  # small models follow no $ref
    parameters = {"type": "object", "properties": {"steps": steps}, "required": ["steps"]}
    plan = BuiltIn(ToolSpec(PLAN, told, parameters), traits, Plan, run_plan)
    if not agents:
        return [plan]
    who = "; ".join(f"{agent.id}: {agent.purpose}" for agent in sorted(agents, key=lambda agent: agent.id))
    ask = BuiltIn(ToolSpec(ASK, f"Let an agent do a task. {who}", schema(Task)), traits, Task, ask_agent)
    return [plan, ask]
