# What tells that the promise is in danger: log-based metrics, alert policies with their runbooks, and one dashboard.
# The names of events and fields are the functions' own; tests/terraform/test_monitoring.py holds them against the code.
# No metric has a label for the mailbox, which would make a time series for each; the runbooks say how the log names the
# mailboxes.

locals {
  # Bucket bounds. 600 and 1800 are bounds because alerts compare with them: a percentile is interpolated within its
  # bucket, so only against a bound is the comparison exact.
  second_bounds = [1, 2, 5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400]
  count_bounds  = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000]

  # Log-based metrics. With `value` a metric is the distribution of that field, without it the number of entries. A lag
  # of null, where no notification was answered, fails the comparison and does not count.
  metrics = {
    synced = {
      title  = "turns at a mailbox by how they ended"
      filter = "jsonPayload.event=\"synced\""
      label  = "status"
    }
    turns = {
      title  = "turns at a mailbox, failed ones included"
      filter = "(jsonPayload.event=\"synced\" OR jsonPayload.event=\"turn_failed\")"
    }
    turns_rejected = {
      title  = "turns in which Gmail refused calls for quota"
      filter = "(jsonPayload.event=\"synced\" OR jsonPayload.event=\"turn_failed\") AND jsonPayload.rejected>0"
    }
    units = {
      title  = "quota units spent in a turn"
      filter = "(jsonPayload.event=\"synced\" OR jsonPayload.event=\"turn_failed\") AND jsonPayload.units>0"
      value  = "units"
      bounds = local.count_bounds
    }
    messages = {
      title  = "messages changed in a turn"
      filter = "jsonPayload.event=\"synced\" AND jsonPayload.messages>0"
      value  = "messages"
      bounds = local.count_bounds
    }
    lag = {
      title  = "seconds from a notification to the commit that answered it"
      filter = "jsonPayload.event=\"synced\" AND jsonPayload.lag>=0"
      value  = "lag"
      bounds = local.second_bounds
    }
    overdue = {
      title  = "seconds by which the most overdue mailbox is late, at each sweep"
      filter = "jsonPayload.event=\"swept\" AND jsonPayload.overdue>=0"
      value  = "overdue"
      bounds = local.second_bounds
    }
    parked = {
      title  = "turns at mailboxes that have parked messages"
      filter = "jsonPayload.event=\"synced\" AND jsonPayload.parked>0"
    }
    watch_expiring = {
      title  = "watches with less than 48 hours left, or that Gmail refused to renew"
      filter = "(jsonPayload.event=\"watch_expiring\" OR jsonPayload.event=\"watch_failed\")"
    }
    renewals_published = {
      title  = "daily renewals of watches"
      filter = "jsonPayload.event=\"renewals_published\""
    }
    reauth_required = {
      title  = "attempts at mailboxes whose access is gone, or whose token cannot be deleted"
      filter = "(jsonPayload.event=\"reauth_required\" OR jsonPayload.event=\"purge_failed\")"
    }
    announce_failed = {
      title  = "attempts to publish deltas in vain"
      filter = "jsonPayload.event=\"announce_failed\""
    }
    runs_finished = {
      title  = "runs finished by mode"
      filter = "jsonPayload.event=\"run_finished\""
      label  = "mode"
    }
    coverage_missing = {
      title  = "runs that found messages missing"
      filter = "jsonPayload.event=\"run_finished\" AND jsonPayload.missing>0"
    }
  }

  # The beginning of a Monitoring filter: each log-based metric by its resource, so that policies are made after it, and
  # what Google measures of the functions and subscriptions.
  logged = {
    for name, metric in google_logging_metric.metric :
    name => "resource.type=\"cloud_run_revision\" AND metric.type=\"logging.googleapis.com/user/${metric.name}\""
  }
  requests = join(" AND ", [
    "resource.type=\"cloud_run_revision\"",
    "resource.labels.service_name=starts_with(\"mailmirror-\")",
    "metric.type=\"run.googleapis.com/request_count\"",
  ])
  # Without those of everybody: whoever likes can call the public function so often that a share of all requests says nothing.
  own_requests = "${local.requests} AND resource.labels.service_name!=\"mailmirror-oauth-callback\""
  pushed = join(" AND ", [
    "resource.type=\"pubsub_subscription\"",
    "resource.labels.subscription_id=one_of(\"${join("\",\"", values(google_pubsub_subscription.push)[*].name)}\")",
  ])
  dead = join(" AND ", [
    "resource.type=\"pubsub_subscription\"",
    "resource.labels.subscription_id=one_of(\"${join("\",\"", values(google_pubsub_subscription.dead_letters)[*].name)}\")",
  ])

  # Names in PromQL: the first slash becomes a colon, everything else special an underscore.
  # https://docs.cloud.google.com/monitoring/promql/promql-mapping
  promql = {
    for name, metric in google_logging_metric.metric : name => "logging_googleapis_com:user_${replace(metric.name, "/", "_")}"
  }
  promql_requests = {
    for entry_point in ["renew_watches", "sweep_mailboxes"] : entry_point => join(",", [
      "run_googleapis_com:request_count{monitored_resource=\"cloud_run_revision\"",
      "service_name=\"${google_cloudfunctions2_function.function[entry_point].name}\"",
      "response_code_class=\"2xx\"}",
    ])
  }

  # An event once a day stays in view until the next one: a day, and half an hour in which that one may be late.
  daily = 88200

  # Alert policies. The key names the runbook. A threshold compares `filter`, aligned over `window` seconds by `align`
  # and joined by `join`, with `over`, and must hold for `hold` seconds; with `of` it is a share of that. What has no
  # data counts as healthy, which closes an incident as soon as its window is empty; Cloud Monitoring wants `hold` above
  # 0 for that.
  alerts = {
    dead-letters = {
      title    = "dead letters"
      severity = "ERROR"
      thresholds = [{
        title  = "a message was given up after 20 deliveries"
        filter = "${local.dead} AND metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\""
        align  = "ALIGN_MAX", join = "REDUCE_MAX", by = ["resource.labels.subscription_id"], window = 300, over = 0, hold = 60
      }]
    }

    # A step takes up to 480 s and a delivery after it up to 600 s: 1,080 s. A message seen older than 900 s for 600 s
    # is 1,500 s old, which is more than a whole step in vain and the longest back-off.
    oldest-unacknowledged = {
      title    = "oldest unacknowledged message"
      severity = "ERROR"
      thresholds = [{
        title  = "a message waits for more than 25 minutes"
        filter = "${local.pushed} AND metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\""
        align  = "ALIGN_MAX", join = "REDUCE_MAX", by = ["resource.labels.subscription_id"], window = 300, over = 900, hold = 600
      }]
    }

    # The lag must be bad for longer than one window: a single late commit (a lease taken over, say) is no incident.
    # `overdue` is the promise's own measure: a mailbox that nobody looked at long after it was due, whatever broke. The
    # sweep takes that measure, so its silence is an incident too.
    sync-lag = {
      title    = "sync lag"
      severity = "CRITICAL"
      thresholds = [
        {
          title  = "1 % of notifications are answered after more than 10 minutes, for 15 minutes"
          filter = local.logged["lag"]
          align  = "ALIGN_DELTA", join = "REDUCE_PERCENTILE_99", by = [], window = 600, over = 600, hold = 900
        },
        {
          title  = "a mailbox is more than 30 minutes overdue"
          filter = local.logged["overdue"]
          align  = "ALIGN_DELTA", join = "REDUCE_PERCENTILE_99", by = [], window = 900, over = 1800, hold = 60
        },
      ]
      absences = [{
        title  = "no sweep for an hour"
        filter = local.logged["overdue"]
        align  = "ALIGN_DELTA", join = "REDUCE_SUM", window = 300, hold = 3600
      }]
    }

    watch-expiring = {
      title    = "watch expiring"
      severity = "ERROR"
      thresholds = [{
        title  = "a watch has less than 48 hours left or was refused"
        filter = local.logged["watch_expiring"]
        align  = "ALIGN_DELTA", join = "REDUCE_SUM", by = [], window = local.daily, over = 0, hold = 60
      }]
    }

    # A condition for absent data cannot say 36 hours: it holds for 23.5 h at most, and with its alignment period for 25
    # h. Nor can a PromQL query over a log-based metric, which reads the last 25 h only. Over Google's own metrics it
    # reads further, if it has no duration; and renew_watches answers 2xx exactly when it has logged renewals_published.
    # The left side, sweeps answered one and a half to two days ago, keeps a new deployment quiet, and lets one that
    # never renewed be found.
    # https://docs.cloud.google.com/monitoring/alerts/metric-absence
    # https://docs.cloud.google.com/monitoring/alerts/using-promql
    renewals-absent = {
      title    = "renewals absent"
      severity = "ERROR"
      queries = [{
        title = "no renewal of watches for 36 hours"
        query = join(" unless ", [
          "(sum(sum_over_time(${local.promql_requests["sweep_mailboxes"]}[12h] offset 36h)) > 0)",
          "(sum(sum_over_time(${local.promql_requests["renew_watches"]}[36h])) > 0)",
        ])
      }]
    }

    # Each such mailbox is tried once an hour.
    reauth-required = {
      title    = "access to a mailbox is gone"
      severity = "ERROR"
      thresholds = [{
        title  = "Gmail refuses a mailbox"
        filter = local.logged["reauth_required"]
        align  = "ALIGN_DELTA", join = "REDUCE_SUM", by = [], window = 7200, over = 0, hold = 60
      }]
    }

    coverage-missing = {
      title    = "messages missing"
      severity = "ERROR"
      thresholds = [{
        title  = "a run found messages missing"
        filter = local.logged["coverage_missing"]
        align  = "ALIGN_DELTA", join = "REDUCE_SUM", by = [], window = local.daily, over = 0, hold = 60
      }]
    }

    # A worker that failed tries again after a minute, and each sweep sends one.
    announcing = {
      title    = "deltas are not published"
      severity = "ERROR"
      thresholds = [{
        title  = "mailbox-deltas takes nothing, for 30 minutes"
        filter = local.logged["announce_failed"]
        align  = "ALIGN_DELTA", join = "REDUCE_SUM", by = [], window = 900, over = 0, hold = 1800
      }]
    }

    # A quiet mailbox is synced every 15 to 20 minutes and says each time how many messages are parked.
    parked = {
      title    = "parked messages"
      severity = "WARNING"
      thresholds = [{
        title  = "a mailbox has parked messages"
        filter = local.logged["parked"]
        align  = "ALIGN_DELTA", join = "REDUCE_SUM", by = [], window = 3600, over = 0, hold = 60
      }]
    }

    # A user's quota is shared with every other client of the project, and a burst that is refused is tried again: a few
    # refusals are normal, however many mailboxes there are. One turn in ten for an hour is a budget that is wrong. Half
    # an hour holds at least one turn of each mailbox.
    quota-rejections = {
      title    = "quota rejections"
      severity = "WARNING"
      thresholds = [{
        title  = "Gmail refuses calls in one turn of ten, for an hour"
        filter = local.logged["turns_rejected"]
        of     = local.logged["turns"]
        align  = "ALIGN_DELTA", join = "REDUCE_SUM", by = [], window = 1800, over = 0.1, hold = 3600
      }]
    }

    # 503 asks Pub/Sub to come back and is normal in small numbers; half of all answers for half an hour is an outage,
    # of Gmail, Firestore or the functions. Any other 5xx is not Mailmirror's own answer.
    server-errors = {
      title    = "server errors"
      severity = "ERROR"
      thresholds = [
        {
          title  = "a function answered 5xx other than 503"
          filter = "${local.requests} AND metric.labels.response_code_class=\"5xx\" AND metric.labels.response_code!=\"503\""
          align  = "ALIGN_DELTA", join = "REDUCE_SUM", by = ["resource.labels.service_name"], window = 300, over = 0, hold = 60
        },
        {
          title  = "half of all answers are 503, for 30 minutes"
          filter = "${local.own_requests} AND metric.labels.response_code=\"503\""
          of     = local.own_requests
          align  = "ALIGN_DELTA", join = "REDUCE_SUM", by = [], window = 600, over = 0.5, hold = 1800
        },
      ]
    }
  }
}

resource "google_logging_metric" "metric" {
  for_each = local.metrics

  name        = "mailmirror/${each.key}"
  description = "Mailmirror: ${each.value.title}."
  filter = join(" AND ", [
    "resource.type=\"cloud_run_revision\"",
    "resource.labels.service_name=~\"^mailmirror-\"",
    each.value.filter,
  ])
  value_extractor = try("EXTRACT(jsonPayload.${each.value.value})", null)
  label_extractors = {
    for label in try([each.value.label], []) : label => "EXTRACT(jsonPayload.${label})"
  }

  metric_descriptor {
    metric_kind  = "DELTA"
    value_type   = try(each.value.value, null) == null ? "INT64" : "DISTRIBUTION"
    unit         = try(each.value.bounds, null) == local.second_bounds ? "s" : "1"
    display_name = "Mailmirror: ${each.value.title}"

    dynamic "labels" {
      for_each = try([each.value.label], [])

      content {
        key        = labels.value
        value_type = "STRING"
      }
    }
  }

  dynamic "bucket_options" {
    for_each = try([each.value.bounds], [])

    content {
      explicit_buckets {
        bounds = bucket_options.value
      }
    }
  }

  depends_on = [google_project_service.api]
}

resource "google_monitoring_alert_policy" "alert" {
  for_each = local.alerts

  display_name          = "Mailmirror: ${each.value.title}"
  combiner              = "OR"
  severity              = each.value.severity
  notification_channels = var.notification_channels
  user_labels           = local.labels

  dynamic "conditions" {
    for_each = try(each.value.thresholds, [])

    content {
      display_name = conditions.value.title

      condition_threshold {
        filter                  = conditions.value.filter
        denominator_filter      = try(conditions.value.of, null)
        comparison              = "COMPARISON_GT"
        threshold_value         = conditions.value.over
        duration                = "${conditions.value.hold}s"
        evaluation_missing_data = "EVALUATION_MISSING_DATA_INACTIVE"

        aggregations {
          alignment_period     = "${conditions.value.window}s"
          per_series_aligner   = conditions.value.align
          cross_series_reducer = conditions.value.join
          group_by_fields      = conditions.value.by
        }

        dynamic "denominator_aggregations" {
          for_each = try([conditions.value.of], [])

          content {
            alignment_period     = "${conditions.value.window}s"
            per_series_aligner   = conditions.value.align
            cross_series_reducer = conditions.value.join
            group_by_fields      = conditions.value.by
          }
        }
      }
    }
  }

  dynamic "conditions" {
    for_each = try(each.value.absences, [])

    content {
      display_name = conditions.value.title

      condition_absent {
        filter   = conditions.value.filter
        duration = "${conditions.value.hold}s"

        aggregations {
          alignment_period     = "${conditions.value.window}s"
          per_series_aligner   = conditions.value.align
          cross_series_reducer = conditions.value.join
        }
      }
    }
  }

  dynamic "conditions" {
    for_each = try(each.value.queries, [])

    content {
      display_name = conditions.value.title

      condition_prometheus_query_language {
        query               = conditions.value.query
        evaluation_interval = "600s"
        # In a new project nothing has been asked of the functions yet, and a metric without data may count as unknown.
        disable_metric_validation = true
      }
    }
  }

  documentation {
    subject   = "Mailmirror: ${each.value.title}"
    content   = file("${path.module}/runbooks/${each.key}.md")
    mime_type = "text/markdown"
  }

  # Incidents close by their data, see above; this ends what never gets any again.
  alert_strategy {
    auto_close = "604800s"
  }

  # A policy over a log-based metric is refused (404) until Monitoring knows the metric, which takes seconds, by
  # Google's word up to 10 minutes. The functions take minutes to build, so on a first apply that time passes while they
  # do.
  depends_on = [google_cloudfunctions2_function.function]
}

locals {
  # The dashboard, a chart for each row. A line is a filter with how it is aligned and joined, or a PromQL query where
  # the sum of a distribution is wanted. `name` is its legend; Monitoring fills in what is in braces.
  charts = [
    { title = "Turns at mailboxes, by status", unit = "a second", lines = [
      {
        name   = "$${metric.labels.status}"
        filter = local.logged["synced"]
        align  = "ALIGN_RATE", join = "REDUCE_SUM", by = ["metric.labels.status"]
      },
    ] },
    { title = "Lag from notification to commit", unit = "seconds", lines = [
      { name = "p50", filter = local.logged["lag"], align = "ALIGN_DELTA", join = "REDUCE_PERCENTILE_50", by = [] },
      { name = "p99", filter = local.logged["lag"], align = "ALIGN_DELTA", join = "REDUCE_PERCENTILE_99", by = [] },
    ] },
    { title = "Most overdue mailbox", unit = "seconds", lines = [
      { name = "overdue", filter = local.logged["overdue"], align = "ALIGN_DELTA", join = "REDUCE_PERCENTILE_99", by = [] },
    ] },
    { title = "Messages changed", unit = "a minute", lines = [
      { name = "messages", promql = "sum(rate(${local.promql["messages"]}_sum{monitored_resource=\"cloud_run_revision\"}[5m])) * 60" },
    ] },
    { title = "Gmail quota units spent, all mailboxes", unit = "a minute", lines = [
      { name = "units", promql = "sum(rate(${local.promql["units"]}_sum{monitored_resource=\"cloud_run_revision\"}[5m])) * 60" },
    ] },
    { title = "Turns in which Gmail refused calls for quota", unit = "a second", lines = [
      { name = "refused", filter = local.logged["turns_rejected"], align = "ALIGN_RATE", join = "REDUCE_SUM", by = [] },
      { name = "all", filter = local.logged["turns"], align = "ALIGN_RATE", join = "REDUCE_SUM", by = [] },
    ] },
    { title = "Pushes, by answer", unit = "a second", lines = [
      {
        name   = "$${resource.labels.subscription_id} $${metric.labels.response_class}"
        filter = "${local.pushed} AND metric.type=\"pubsub.googleapis.com/subscription/push_request_count\""
        align  = "ALIGN_RATE", join = "REDUCE_SUM", by = ["resource.labels.subscription_id", "metric.labels.response_class"]
      },
    ] },
    { title = "Oldest unacknowledged message", unit = "seconds", lines = [
      {
        name   = "$${resource.labels.subscription_id}"
        filter = "${local.pushed} AND metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\""
        align  = "ALIGN_MAX", join = "REDUCE_MAX", by = ["resource.labels.subscription_id"]
      },
    ] },
    { title = "Dead letters", unit = "messages", lines = [
      {
        name   = "$${resource.labels.subscription_id}"
        filter = "${local.dead} AND metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\""
        align  = "ALIGN_MAX", join = "REDUCE_MAX", by = ["resource.labels.subscription_id"]
      },
    ] },
    { title = "Requests, by function and answer", unit = "a second", lines = [
      {
        name   = "$${resource.labels.service_name} $${metric.labels.response_code_class}"
        filter = local.requests
        align  = "ALIGN_RATE", join = "REDUCE_SUM", by = ["resource.labels.service_name", "metric.labels.response_code_class"]
      },
    ] },
    { title = "Latency of the functions, p99", unit = "milliseconds", lines = [
      {
        name   = "$${resource.labels.service_name}"
        filter = replace(local.requests, "request_count", "request_latencies")
        align  = "ALIGN_DELTA", join = "REDUCE_PERCENTILE_99", by = ["resource.labels.service_name"]
      },
    ] },
    { title = "Instances", unit = "instances", lines = [
      {
        name   = "$${resource.labels.service_name}"
        filter = replace(local.requests, "request_count", "container/instance_count")
        align  = "ALIGN_MAX", join = "REDUCE_SUM", by = ["resource.labels.service_name"]
      },
    ] },
    { title = "Firestore documents", unit = "a second", lines = [
      for operation in ["read", "write", "delete"] :
      {
        name = operation
        filter = join(" AND ", [
          "resource.type=\"firestore.googleapis.com/Database\"",
          "resource.labels.database_id=\"${var.firestore_database}\"",
          "metric.type=\"firestore.googleapis.com/document/${operation}_ops_count\"",
        ])
        align = "ALIGN_RATE", join = "REDUCE_SUM", by = []
      }
    ] },
    { title = "Turns at mailboxes with parked messages", unit = "a second", lines = [
      { name = "parked", filter = local.logged["parked"], align = "ALIGN_RATE", join = "REDUCE_SUM", by = [] },
    ] },
    { title = "Runs finished, by mode, and renewals", unit = "a second", lines = [
      {
        name   = "$${metric.labels.mode}"
        filter = local.logged["runs_finished"]
        align  = "ALIGN_RATE", join = "REDUCE_SUM", by = ["metric.labels.mode"]
      },
      { name = "renewals", filter = local.logged["renewals_published"], align = "ALIGN_RATE", join = "REDUCE_SUM", by = [] },
    ] },
  ]
}

resource "google_monitoring_dashboard" "mailmirror" {
  dashboard_json = jsonencode({
    displayName = "Mailmirror"
    gridLayout = {
      # An int64, which the API gives back as text.
      columns = "3"
      widgets = [for chart in local.charts : {
        title = chart.title
        xyChart = {
          yAxis = { label = chart.unit, scale = "LINEAR" }
          dataSets = [for line in chart.lines : {
            plotType       = "LINE"
            targetAxis     = "Y1"
            legendTemplate = line.name
            timeSeriesQuery = { for kind, query in {
              prometheusQuery = try(line.promql, null)
              timeSeriesFilter = try({
                filter = line.filter
                # Without what is empty: the API does not give it back, and each plan would differ.
                aggregation = { for field, value in {
                  alignmentPeriod    = "60s"
                  perSeriesAligner   = line.align
                  crossSeriesReducer = line.join
                  groupByFields      = line.by
                } : field => value if length(value) > 0 }
              }, null)
            } : kind => query if query != null }
          }]
        }
      }]
    }
  })

  depends_on = [google_project_service.api]
}

# Google brings a user's consent to the callback in its address, which Cloud Run would log with each request. The code in it is worth
# nothing without the client's secret, and is in no log all the same.
resource "google_logging_project_exclusion" "callback" {
  count = var.gmail_auth == "oauth" ? 1 : 0

  name        = "mailmirror-oauth-callback"
  description = "Requests to Mailmirror's OAuth callback: their addresses hold codes of consents."
  filter      = "resource.type=\"cloud_run_revision\" AND log_id(\"run.googleapis.com/requests\") AND httpRequest.requestUrl:\"/oauth/callback\""

  depends_on = [google_project_service.api]
}
