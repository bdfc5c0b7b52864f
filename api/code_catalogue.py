"""What every code of this service means that is not a problem's own: of jobs, of datasets, of fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from core.jobs.lifecycle import MEMORY_CURE

CodeKind = Literal[
    "problem",
    "job_failure",
    "attempt_outcome",
    "job_warning",
    "dataset_problem",
    "dataset_finding",
    "field",
]


@dataclass(frozen=True, slots=True)
class Meaning:
    """What has happened, what to do, and whether the same thing may go well if it is tried again."""

    title: str
    advice: str
    retryable: bool = False


_REPORT = "The operator's log has the details, under the job's id."

# `status_reason.code` of a job that failed.
JOB_FAILURES = {
    "invalid_dataset": Meaning("The data cannot be trained on", "The message says why. Mend the file."),
    "out_of_memory": Meaning("The memory did not suffice", MEMORY_CURE),
    "diverged": Meaning(
        "The training came to no finite number",
        "Lower learning_rate, or use precision 32-true; look at the data for extreme values.",
    ),
    "crash_loop": Meaning(
        "The trainer crashed again and again", f"{_REPORT} POST …/retry starts it again.", retryable=True
    ),
    "stalled": Meaning("The trainer fell silent again and again", _REPORT, retryable=True),
    "timed_out": Meaning(
        "max_runtime_seconds was over before there was a checkpoint",
        "Raise limits.max_runtime_seconds, or make the run shorter; POST /v1/jobs/estimate helps.",
    ),
    "pending_timeout": Meaning(
        "No worker took the job in time",
        "GET /v1/queue shows what waits. Raise limits.max_pending_seconds, or add workers.",
        retryable=True,
    ),
    "worker_lost": Meaning("Its workers were lost again and again", _REPORT, retryable=True),
    "storage_unavailable": Meaning("The object storage did not answer", _REPORT, retryable=True),
    "no_space": Meaning("A worker's disk was full", "The operator has to make room.", retryable=True),
    "unsupported_hardware": Meaning(
        "No hardware for this spec",
        "GET /v1/capabilities lists what there is. Without precision_strict the job falls back and says so.",
    ),
    "internal": Meaning("The trainer broke", f"{_REPORT} If it stays, report it.", retryable=True),
}

# `outcome` of an attempt after which the job was queued again.
ATTEMPT_OUTCOMES = {
    "worker_lost": Meaning("The worker stopped renewing its lease", "Nothing: the job goes on by itself."),
    "crashed": Meaning("The trainer crashed", "Nothing: the job is tried again after a pause."),
    "stalled": Meaning("The trainer reported nothing for too long", "Nothing: the job is tried again."),
    "storage_unavailable": Meaning("The storage did not answer", "Nothing: the job is tried again."),
    "out_of_memory": Meaning("The kernel ended it for want of memory", "Nothing: the batch is halved."),
    "drained": Meaning("The worker was asked to stop", "Nothing: the job goes on on another worker."),
}

# `warnings[].code` of a job; those of the data's findings come beside them.
JOB_WARNINGS = {
    "constant_target": Meaning("A target never changes", "Leave it out of target_metrics."),
    "series_too_short": Meaning(
        "Some series are left out", "Shorten encoder_length or horizon to keep them."
    ),
    "too_short": Meaning("Series were left out as too short", "Shorten encoder_length or horizon."),
    "tails_lengthened": Meaning(
        "A validation or test tail was shorter than one horizon",
        "Nothing, or raise validation_split or test_split.",
    ),
    "validation_sampled": Meaning(
        "Validation takes only some of its windows", "Nothing: these suffice to steer the training."
    ),
    "no_kernels": Meaning(
        "Training is slower than it could be", "The message says what the worker lacks; tell its operator."
    ),
    "resume_failed": Meaning("A stored state could not be read", "Nothing: the training starts afresh."),
    "time_limit_likely": Meaning(
        "The limit may cut the training short", "Raise limits.max_runtime_seconds or lower epochs."
    ),
}

# `problem.code` of a rejected dataset, and of the refusal of an upload.
DATASET_PROBLEMS = {
    "empty_file": Meaning("The file is empty", "Send the file as the body."),
    "unreadable_file": Meaning("The file is not in its format", "Export it again, or name another format."),
    "unsupported_format": Meaning("The format is not read here", "Send one that `?format=` takes."),
    "bad_mapping": Meaning("The mapping does not fit the file", "`detail` says where. Mend `mapping`."),
    "no_time_column": Meaning("No column holds times", "Name it in mapping.time_column."),
    "ambiguous_time_column": Meaning("Several columns hold times", "Name one in mapping.time_column."),
    "no_numeric_column": Meaning("No column holds numbers", "A dataset needs one metric at least."),
    "unknown_column": Meaning("The mapping names a column that is not there", "`detail` lists the columns."),
    "unknown_series": Meaning("A series is named that is not there", "`detail` names it."),
    "bad_time_value": Meaning("A time cannot be read", "Mend the row, or write times as RFC 3339."),
    "irregular_frequency": Meaning("No step between rows is usual", "Name it in mapping.frequency."),
    "duplicate_column": Meaning(
        "Two columns have one name", "Rename one, in the file or in mapping.columns."
    ),
    "duplicate_rows": Meaning(
        "Rows share series and time", "Name the columns that tell series apart in mapping.group_columns."
    ),
    "missing_values": Meaning("Values are missing where none may be", "Fill them in, or drop the column."),
    "varying_category": Meaning(
        "A category changes within a series", "Only a column that is constant per series can be a category."
    ),
    "too_many_rows": Meaning(
        "The file has more rows than are read", "Send a shorter range or fewer servers."
    ),
    "too_many_columns": Meaning("The file has more columns than are read", "Send fewer columns."),
    "out_of_memory": Meaning("The inspection needs more memory than it may take", "Send a smaller file."),
    "timed_out": Meaning("The inspection took too long", "Send a smaller file.", retryable=True),
    "inspection_failed": Meaning(
        "The inspection broke twice", "Send it again; if it stays, report it.", True
    ),
}

# `findings[].code` of a dataset's report; the same codes warn in a job.
DATASET_FINDINGS = {
    "gaps": Meaning("Steps are missing", "missing_policy says what the training makes of them."),
    "duplicates": Meaning("Rows share series and time", "Nothing: the last of them counts."),
    "unaligned": Meaning("Times lie off the grid", "Nothing: they were moved to the nearest step."),
    "too_short": Meaning("Series are shorter than the default windows", "Shorten encoder_length or horizon."),
    "constant": Meaning("Columns or series never change", "Do not make them a target."),
    "out_of_range": Meaning("Values lie outside of what their unit allows", "Check the unit and the source."),
    "missing_values": Meaning("Values are missing", "missing_policy says what the training makes of them."),
    "mixed_values": Meaning("A column of numbers holds other things too", "Those count as missing."),
    "unordered": Meaning("Rows are not in the order of time", "Nothing: they were sorted."),
    "ignored_columns": Meaning("Columns were left out", "The detail says why; name them in `mapping`."),
}

_SEE_SCHEMA = "GET /v1/spec/schema has every field with its bounds."
_SEE_COLUMNS = "GET /v1/datasets/{id} lists the columns and their types."

# `errors[].code` of a problem: what is wrong at its pointer.
FIELDS = {
    "required": Meaning("A field is missing", "Send it."),
    "unknown_field": Meaning("There is no such field", "`detail` names the nearest one."),
    "unknown_parameter": Meaning("There is no such query parameter", "`detail` names the nearest one."),
    "repeated_parameter": Meaning("A query parameter stands twice", "Send it once."),
    "too_small": Meaning("A number is too small", _SEE_SCHEMA),
    "too_large": Meaning("A number is too large", _SEE_SCHEMA),
    "too_short": Meaning("A text or list is too short", _SEE_SCHEMA),
    "too_long": Meaning("A text or list is too long", _SEE_SCHEMA),
    "not_allowed": Meaning("The value is none of those allowed", "`detail` lists them."),
    "wrong_form": Meaning("The text has not the form it needs", "`detail` shows the form."),
    "wrong_type": Meaning("The value is of the wrong type", "`detail` says which type is meant."),
    "not_finite": Meaning("The number is not finite", "JSON has no NaN and no infinity; leave it out."),
    "value_error": Meaning("The values do not fit together", "`detail` says how."),
    "timezone_aware": Meaning("The time has no zone", "End it with Z, or with an offset."),
    "int_from_float": Meaning("The number is not whole", "Send a whole number."),
    "in_the_past": Meaning("The time is over", "Send one that is yet to come."),
    "out_of_range": Meaning("The time lies outside of the calendar", "Send a time that the calendar has."),
    "not_supported": Meaning("Planned, but not built yet", "Leave it out."),
    "column_in_two_roles": Meaning("A column has two roles", "Name it in one of the lists alone."),
    "duplicate_name": Meaning("A name stands twice", "Name it once."),
    "heads_do_not_divide": Meaning("The heads do not divide the width", "Choose 32 and 4, for one."),
    "one_target_expected": Meaning("multi_target is false", "Name one target, or leave multi_target out."),
    "quantiles_not_rising": Meaning("Quantiles do not rise", "Sort them; each stands once."),
    "quantiles_without_median": Meaning("The median is missing", "Add 0.5."),
    "unknown_column": Meaning("The dataset has no such column", _SEE_COLUMNS),
    "series_too_short": Meaning("No series is long enough", "Shorten encoder_length or horizon."),
    "has_gaps": Meaning("The dataset has gaps", "Choose another missing_policy than error."),
    "dataset_not_ready": Meaning(
        "The dataset is being inspected", "Submit once it is ready.", retryable=True
    ),
    "unknown_dataset": Meaning("There is no such dataset", "GET /v1/datasets lists those there are."),
    "rejected_dataset": Meaning("The dataset was rejected", "Its `problem` says why. Upload a mended file."),
    "invalid_cursor": Meaning("The cursor is not this list's", "Start again without it."),
    "invalid_event_id": Meaning("No event of this job has this id", "Leave Last-Event-ID out."),
    "invalid_idempotency_key": Meaning("The key has a form that is not taken", "Use 1 to 255 ASCII signs."),
    "invalid_name": Meaning("The name has a form that is not taken", "`detail` shows the form."),
    "invalid_scope": Meaning("There is no such scope", "`detail` lists them."),
    "refused_query": Meaning("The server refused the PromQL", "`detail` has its own words."),
    "encoding": Meaning("The body is not UTF-8", "Encode it as UTF-8."),
    "invalid_character": Meaning("A text holds a character that is not taken", "Take it out."),
    "number_too_large": Meaning("A number has too many digits", "Send a smaller one."),
    "syntax": Meaning("The body is not JSON", "`detail` says where it ends to be."),
    "too_deep": Meaning("The JSON is nested too deeply", "No field needs that."),
}

CATALOGUE: dict[CodeKind, dict[str, Meaning]] = {
    "job_failure": JOB_FAILURES,
    "attempt_outcome": ATTEMPT_OUTCOMES,
    "job_warning": JOB_WARNINGS,
    "dataset_problem": DATASET_PROBLEMS,
    "dataset_finding": DATASET_FINDINGS,
    "field": FIELDS,
}
