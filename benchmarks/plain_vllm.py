"""vLLM without any of our code, for benchmarks/engines.py: JSON lines in, JSON lines out.

First line: keyword arguments of `vllm.LLM`. Then one line a round, {"prompts": token lists, "new":
new tokens}, answered with {"tokens": tokens, "seconds": seconds}.
"""

import json
import os
import sys
import time

os.environ |= {"HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "WARNING", "VLLM_NO_USAGE_STATS": "1"}
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"

from vllm import LLM, SamplingParams


def main() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what vLLM prints is no answer
    llm = LLM(**json.loads(sys.stdin.readline()))
    for line in sys.stdin:
        asked = json.loads(line)
        new = asked["new"]
        sampling = SamplingParams(temperature=0, max_tokens=new, ignore_eos=True, detokenize=False)
        prompts = [{"prompt_token_ids": prompt} for prompt in asked["prompts"]]
        begin = time.perf_counter()
        done = llm.generate(prompts, sampling, use_tqdm=False)
        seconds = time.perf_counter() - begin
        written = sum(len(one.outputs[0].token_ids) for one in done)
        tokens = written if new > 1 else sum(map(len, asked["prompts"]))
        answers.write(json.dumps({"tokens": tokens, "seconds": seconds}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
