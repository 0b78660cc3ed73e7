locals {
  schedules = {
    renew_watches   = var.renew_schedule
    sweep_mailboxes = var.sweep_schedule
  }
}

resource "google_cloud_scheduler_job" "job" {
  for_each = local.schedules

  name        = "mailmirror-${replace(each.key, "_", "-")}"
  region      = coalesce(var.scheduler_region, var.region)
  description = local.functions[each.key].description
  schedule    = each.value
  time_zone   = "Etc/UTC"
  # A little longer than the function itself may take, so that its own answer is what is logged.
  attempt_deadline = "320s"

  retry_config {
    retry_count          = 3
    min_backoff_duration = "10s"
    max_backoff_duration = "60s"
    max_doublings        = 3
    max_retry_duration   = "0s"
  }

  http_target {
    http_method = "POST"
    uri         = google_cloudfunctions2_function.function[each.key].service_config[0].uri

    oidc_token {
      service_account_email = google_service_account.scheduler.email
      audience              = google_cloudfunctions2_function.function[each.key].service_config[0].uri
    }
  }

  depends_on = [google_cloud_run_service_iam_binding.invoker]
}
