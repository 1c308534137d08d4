"""Where the published prompt sets are found: python -m x2i_app.evaluation.sources

None of them is bundled: each has a license of its own, which is written there.
"""

# Set, file for --prompts, address.
SOURCES = (
    ("GenEval", "prompts/evaluation_metadata.jsonl", "https://github.com/djghosh13/geneval"),
    ("DPG-Bench", "dpg_bench/dpg_bench.csv", "https://github.com/TencentQQGYLab/ELLA"),
    ("T2I-CompBench", "examples/dataset (the folder)", "https://github.com/Karine-Huang/T2I-CompBench"),
    ("PartiPrompts", "PartiPrompts.tsv", "https://github.com/google-research/parti"),
    ("MJHQ-30K", "meta_data.json", "https://huggingface.co/datasets/playgroundai/MJHQ-30K"),
)


def main(arguments: list[str] | None = None) -> None:
    """Print the table. arguments: none are needed."""
    for name, file, address in SOURCES:
        print(f"{name:<14} {file:<34} {address}")


if __name__ == "__main__":
    main()
