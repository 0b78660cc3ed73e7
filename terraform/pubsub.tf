locals {
  # Each topic with the entry point that its messages are pushed to.
  pushes = {
    "gmail-notifications" = "sync_history"
    "mailbox-work"        = "run_work"
  }

  pubsub_agent = "serviceAccount:service-${local.project_number}@gcp-sa-pubsub.iam.gserviceaccount.com"
}

resource "google_pubsub_topic" "topic" {
  for_each = local.pushes

  name         = each.key
  kms_key_name = var.kms_key
  labels       = local.labels

  depends_on = [google_project_service.api]
}

# Only Gmail publishes notifications. https://developers.google.com/gmail/api/guides/push
resource "google_pubsub_topic_iam_binding" "gmail_publisher" {
  topic   = google_pubsub_topic.topic["gmail-notifications"].name
  role    = "roles/pubsub.publisher"
  members = ["serviceAccount:gmail-api-push@system.gserviceaccount.com"]
}

# Only functions publish work, and none that only reads.
resource "google_pubsub_topic_iam_binding" "work_publisher" {
  topic   = google_pubsub_topic.topic["mailbox-work"].name
  role    = "roles/pubsub.publisher"
  members = [for name, function in local.functions : google_service_account.function[name].member if function.publishes]
}

# What applications subscribe to, if asked for: each change of a mirror, in the order of its mailbox. A subscription may seek back a week.
resource "google_pubsub_topic" "deltas" {
  count = var.delta_topic ? 1 : 0

  name                       = "mailbox-deltas"
  kms_key_name               = var.kms_key
  labels                     = local.labels
  message_retention_duration = "604800s"

  depends_on = [google_project_service.api]
}

# Only functions that commit publish what they committed.
resource "google_pubsub_topic_iam_binding" "delta_publisher" {
  count = var.delta_topic ? 1 : 0

  topic   = google_pubsub_topic.deltas[0].name
  role    = "roles/pubsub.publisher"
  members = [for name, function in local.functions : google_service_account.function[name].member if function.mirror == "write"]
}

resource "google_pubsub_subscription" "push" {
  for_each = local.pushes

  name                       = "${each.key}-push"
  topic                      = google_pubsub_topic.topic[each.key].id
  ack_deadline_seconds       = local.push_seconds
  message_retention_duration = "604800s"
  labels                     = local.labels

  # Without this a subscription is deleted after 31 days in which no mailbox got mail.
  expiration_policy {
    ttl = ""
  }

  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }

  dead_letter_policy {
    dead_letter_topic = google_pubsub_topic.dead_letters[each.key].id
    # Two hours and more of the back-off above: only what no retry can mend gets there.
    max_delivery_attempts = 20
  }

  push_config {
    push_endpoint = google_cloudfunctions2_function.function[each.value].service_config[0].uri

    oidc_token {
      service_account_email = google_service_account.push.email
      audience              = google_cloudfunctions2_function.function[each.value].service_config[0].uri
    }
  }

  # What is published before the push account may call would be refused and counted as a delivery attempt.
  depends_on = [google_cloud_run_service_iam_binding.invoker, google_service_account_iam_member.token_creator]
}

# Dead letters: what was pushed in vain 20 times is kept for 31 days, for a person to look at.

resource "google_pubsub_topic" "dead_letters" {
  for_each = local.pushes

  name         = "${each.key}-dead-letters"
  kms_key_name = var.kms_key
  labels       = local.labels

  depends_on = [google_project_service.api]
}

resource "google_pubsub_subscription" "dead_letters" {
  for_each = local.pushes

  name                       = "${each.key}-dead-letters"
  topic                      = google_pubsub_topic.dead_letters[each.key].id
  ack_deadline_seconds       = 60
  message_retention_duration = "2678400s"
  labels                     = local.labels

  expiration_policy {
    ttl = ""
  }
}

# Pub/Sub itself moves dead letters: it publishes them to the one topic and takes them from the other's subscription. Its service
# agent may not exist before a subscription does. https://docs.cloud.google.com/pubsub/docs/dead-letter-topics
# Should an apply still be told that it does not exist, it is made by
# `gcloud beta services identity create --service=pubsub.googleapis.com --project=PROJECT`.

resource "google_pubsub_topic_iam_binding" "dead_letter_publisher" {
  for_each = local.pushes

  topic   = google_pubsub_topic.dead_letters[each.key].name
  role    = "roles/pubsub.publisher"
  members = [local.pubsub_agent]

  depends_on = [google_pubsub_subscription.push]
}

resource "google_pubsub_subscription_iam_member" "dead_letter_subscriber" {
  for_each = local.pushes

  subscription = google_pubsub_subscription.push[each.key].name
  role         = "roles/pubsub.subscriber"
  member       = local.pubsub_agent

  lifecycle {
    # A subscription made anew has the same name and none of the rights.
    replace_triggered_by = [google_pubsub_subscription.push[each.key].id]
  }
}
