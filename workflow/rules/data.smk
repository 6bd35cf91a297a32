# A download that fails for good leaves a reason file in place of the file, as do the jobs after it;
# tables show the reason, and the next run tries again (flowgmm/utils/absence.py).
# Downloads run where Snakemake runs: a cluster's nodes are often offline.
rule download_file:
    output:
        "results/raw/{dataset}/{file}",
    log:
        "results/logs/download_file/{dataset}/{file}.log",
    benchmark:
        "results/benchmarks/download_file/{dataset}/{file}.tsv"
    wildcard_constraints:
        # Not the files that rules of rules/datasets make.
        dataset=f"(?!encoders/|({one_of(made_files(project))})$)[A-Za-z0-9_.]+",
    localrule: True
    conda:
        "../../environment.yml"
    resources:
        mem_mb=1000,
        runtime=240,
        mirror=project.settings.mirror or "",
        script=script("download_file"),
        offline="true" if project.settings.offline else "false",
    params:
        # Snakemake does not compare a param that depends on the output.
        spec=lambda w, output: as_json(raw_files(project, w.dataset)[str(output[0])]),
        wanted=lambda w: as_json(
            wanted_file(project, f"results/raw/{w.dataset}/{w.file}")
        ),
    shell:
        "trap '' TERM; python {resources.script:q} --spec {params.spec:q} --mirror={resources.mirror:q} "
        "--offline={resources.offline:q} --output {output:q} 2> >(tee {log:q} >&2)"


# A JSON file with the names and hashes of the encoder's files, which lie in the folder beside it.
rule download_encoder:
    output:
        "results/raw/encoders/{encoder}.json",
    log:
        "results/logs/download_encoder/{encoder}.log",
    benchmark:
        "results/benchmarks/download_encoder/{encoder}.tsv"
    wildcard_constraints:
        encoder=one_of(ENCODERS),
    localrule: True
    conda:
        "../../environment.yml"
    resources:
        mem_mb=1000,
        runtime=240,
        script=script("download_encoder"),
    params:
        encoder=lambda w: ENCODERS[w.encoder],
        failures=lambda w: failures(f"results/raw/encoders/{w.encoder}.json"),
    shell:
        "trap '' TERM; python {resources.script:q} --encoder {params.encoder:q} --output {output:q} "
        "2> >(tee {log:q} >&2)"


rule prepare_data:
    input:
        raw=lambda w: raw_inputs(project, dataset_of(w.features)),
    output:
        "results/features/{features}.safetensors",
    log:
        "results/logs/prepare_data/{features}.log",
    benchmark:
        "results/benchmarks/prepare_data/{features}.tsv"
    wildcard_constraints:
        features=one_of(PREPARED),
    conda:
        "../../environment.yml"
    resources:
        mem_mb=lambda w, attempt: memory_for(features_of)(w) * attempt,
        runtime=time_for_data(60, features_of),
        script=script("prepare_data"),
    params:
        spec=lambda w: as_json(features_spec(project, dataset_of(w.features))),
        raw=lambda w: raw_folder(project, dataset_of(w.features)),
    shell:
        "trap '' TERM; python {resources.script:q} --spec {params.spec:q} --raw {params.raw:q} "
        "--output {output:q} 2> >(tee {log:q} >&2)"


FEATURES_FILE = "results/features/{features}.safetensors"
EMBED_MEASURED = "results/benchmarks/embed_data/{features}.tsv"


rule embed_data:
    input:
        raw=lambda w: raw_inputs(project, dataset_of(w.features)),
        encoder=lambda w: encoder_files(project, dataset_of(w.features)),
    output:
        "results/features/{features}.safetensors",
    log:
        "results/logs/embed_data/{features}.log",
    benchmark:
        EMBED_MEASURED
    wildcard_constraints:
        features=one_of(EMBEDDED),
    conda:
        "../../environment.yml"
    # All cores of the machine; a profile for a cluster says how many.
    threads: 1024
    resources:
        # Most of it is the encoder's.
        mem_mb=measured(memory_like, EMBED_MEASURED, lambda w: 8000, FEATURES_FILE),
        runtime=measured(
            time_like, EMBED_MEASURED, time_for_data(480, features_of), FEATURES_FILE
        ),
        script=script("embed_data"),
    params:
        spec=lambda w: as_json(features_spec(project, dataset_of(w.features))),
        raw=lambda w: raw_folder(project, dataset_of(w.features)),
        # Finished parts of an interrupted embedding; outputs are deleted before a rerun.
        cache="results/cache/embed",
    shell:
        "trap '' TERM; HF_HUB_OFFLINE=1 OMP_NUM_THREADS={threads} OMP_WAIT_POLICY=passive "
        "python {resources.script:q} --spec {params.spec:q} --raw {params.raw:q} "
        "--encoder {input.encoder:q} --cache {params.cache:q} --output {output:q} "
        "2> >(tee {log:q} >&2)"
