# What Google would answer, as far as the tests need it to tell one thing from another. What is not here is made up by Terraform,
# anew for each resource.

mock_resource "google_storage_bucket" {
  defaults = {
    project_number = 123456789012
  }
}

mock_resource "google_project_iam_custom_role" {
  defaults = {}
}

mock_resource "google_artifact_registry_repository" {
  defaults = {
    id   = "projects/my-project/locations/europe-west1/repositories/mailmirror"
    name = "mailmirror"
  }
}

mock_resource "google_secret_manager_secret" {
  defaults = {
    id = "projects/my-project/secrets/mailmirror-oauth-client"
  }
}

mock_resource "google_firestore_field" {
  defaults = {}
}

# Functions

override_resource {
  target = google_cloudfunctions2_function.function["sync_history"]
  values = {
    service_config = {
      uri = "https://mailmirror-sync-history.example"
    }
  }
}

override_resource {
  target = google_cloudfunctions2_function.function["run_work"]
  values = {
    service_config = {
      uri = "https://mailmirror-run-work.example"
    }
  }
}

override_resource {
  target = google_cloudfunctions2_function.function["renew_watches"]
  values = {
    service_config = {
      uri = "https://mailmirror-renew-watches.example"
    }
  }
}

override_resource {
  target = google_cloudfunctions2_function.function["sweep_mailboxes"]
  values = {
    service_config = {
      uri = "https://mailmirror-sweep-mailboxes.example"
    }
  }
}

override_resource {
  target = google_cloudfunctions2_function.function["trigger_sync"]
  values = {
    service_config = {
      uri = "https://mailmirror-trigger-sync.example"
    }
  }
}

override_resource {
  target = google_cloudfunctions2_function.function["manage_mailboxes"]
  values = {
    service_config = {
      uri = "https://mailmirror-manage-mailboxes.example"
    }
  }
}

override_resource {
  target = google_cloudfunctions2_function.function["read_mailboxes"]
  values = {
    service_config = {
      uri = "https://mailmirror-read-mailboxes.example"
    }
  }
}

override_resource {
  target = google_cloudfunctions2_function.function["oauth_callback"]
  values = {
    service_config = {
      uri = "https://mailmirror-oauth-callback.example"
    }
  }
}

# Accounts

override_resource {
  target = google_service_account.function["sync_history"]
  values = {
    email  = "mailmirror-sync-history@my-project.iam.gserviceaccount.com"
    member = "serviceAccount:mailmirror-sync-history@my-project.iam.gserviceaccount.com"
    name   = "projects/my-project/serviceAccounts/mailmirror-sync-history@my-project.iam.gserviceaccount.com"
    id     = "projects/my-project/serviceAccounts/mailmirror-sync-history@my-project.iam.gserviceaccount.com"
  }
}

override_resource {
  target = google_service_account.function["run_work"]
  values = {
    email  = "mailmirror-run-work@my-project.iam.gserviceaccount.com"
    member = "serviceAccount:mailmirror-run-work@my-project.iam.gserviceaccount.com"
    name   = "projects/my-project/serviceAccounts/mailmirror-run-work@my-project.iam.gserviceaccount.com"
    id     = "projects/my-project/serviceAccounts/mailmirror-run-work@my-project.iam.gserviceaccount.com"
  }
}

override_resource {
  target = google_service_account.function["renew_watches"]
  values = {
    email  = "mailmirror-renew-watches@my-project.iam.gserviceaccount.com"
    member = "serviceAccount:mailmirror-renew-watches@my-project.iam.gserviceaccount.com"
    name   = "projects/my-project/serviceAccounts/mailmirror-renew-watches@my-project.iam.gserviceaccount.com"
    id     = "projects/my-project/serviceAccounts/mailmirror-renew-watches@my-project.iam.gserviceaccount.com"
  }
}

override_resource {
  target = google_service_account.function["sweep_mailboxes"]
  values = {
    email  = "mailmirror-sweep-mailboxes@my-project.iam.gserviceaccount.com"
    member = "serviceAccount:mailmirror-sweep-mailboxes@my-project.iam.gserviceaccount.com"
    name   = "projects/my-project/serviceAccounts/mailmirror-sweep-mailboxes@my-project.iam.gserviceaccount.com"
    id     = "projects/my-project/serviceAccounts/mailmirror-sweep-mailboxes@my-project.iam.gserviceaccount.com"
  }
}

override_resource {
  target = google_service_account.function["trigger_sync"]
  values = {
    email  = "mailmirror-trigger-sync@my-project.iam.gserviceaccount.com"
    member = "serviceAccount:mailmirror-trigger-sync@my-project.iam.gserviceaccount.com"
    name   = "projects/my-project/serviceAccounts/mailmirror-trigger-sync@my-project.iam.gserviceaccount.com"
    id     = "projects/my-project/serviceAccounts/mailmirror-trigger-sync@my-project.iam.gserviceaccount.com"
  }
}

override_resource {
  target = google_service_account.function["manage_mailboxes"]
  values = {
    email  = "mailmirror-manage-mailboxes@my-project.iam.gserviceaccount.com"
    member = "serviceAccount:mailmirror-manage-mailboxes@my-project.iam.gserviceaccount.com"
    name   = "projects/my-project/serviceAccounts/mailmirror-manage-mailboxes@my-project.iam.gserviceaccount.com"
    id     = "projects/my-project/serviceAccounts/mailmirror-manage-mailboxes@my-project.iam.gserviceaccount.com"
  }
}

override_resource {
  target = google_service_account.function["read_mailboxes"]
  values = {
    email  = "mailmirror-read-mailboxes@my-project.iam.gserviceaccount.com"
    member = "serviceAccount:mailmirror-read-mailboxes@my-project.iam.gserviceaccount.com"
    name   = "projects/my-project/serviceAccounts/mailmirror-read-mailboxes@my-project.iam.gserviceaccount.com"
    id     = "projects/my-project/serviceAccounts/mailmirror-read-mailboxes@my-project.iam.gserviceaccount.com"
  }
}

override_resource {
  target = google_service_account.function["oauth_callback"]
  values = {
    email  = "mailmirror-oauth-callback@my-project.iam.gserviceaccount.com"
    member = "serviceAccount:mailmirror-oauth-callback@my-project.iam.gserviceaccount.com"
    name   = "projects/my-project/serviceAccounts/mailmirror-oauth-callback@my-project.iam.gserviceaccount.com"
    id     = "projects/my-project/serviceAccounts/mailmirror-oauth-callback@my-project.iam.gserviceaccount.com"
  }
}

override_resource {
  target = google_service_account.push
  values = {
    email  = "mailmirror-push@my-project.iam.gserviceaccount.com"
    member = "serviceAccount:mailmirror-push@my-project.iam.gserviceaccount.com"
    name   = "projects/my-project/serviceAccounts/mailmirror-push@my-project.iam.gserviceaccount.com"
    id     = "projects/my-project/serviceAccounts/mailmirror-push@my-project.iam.gserviceaccount.com"
  }
}

override_resource {
  target = google_service_account.scheduler
  values = {
    email  = "mailmirror-scheduler@my-project.iam.gserviceaccount.com"
    member = "serviceAccount:mailmirror-scheduler@my-project.iam.gserviceaccount.com"
    name   = "projects/my-project/serviceAccounts/mailmirror-scheduler@my-project.iam.gserviceaccount.com"
    id     = "projects/my-project/serviceAccounts/mailmirror-scheduler@my-project.iam.gserviceaccount.com"
  }
}

override_resource {
  target = google_service_account.build
  values = {
    email  = "mailmirror-build@my-project.iam.gserviceaccount.com"
    member = "serviceAccount:mailmirror-build@my-project.iam.gserviceaccount.com"
    name   = "projects/my-project/serviceAccounts/mailmirror-build@my-project.iam.gserviceaccount.com"
    id     = "projects/my-project/serviceAccounts/mailmirror-build@my-project.iam.gserviceaccount.com"
  }
}

override_resource {
  target = google_service_account.delegate[0]
  values = {
    email  = "mailmirror-delegate@my-project.iam.gserviceaccount.com"
    member = "serviceAccount:mailmirror-delegate@my-project.iam.gserviceaccount.com"
    name   = "projects/my-project/serviceAccounts/mailmirror-delegate@my-project.iam.gserviceaccount.com"
    id     = "projects/my-project/serviceAccounts/mailmirror-delegate@my-project.iam.gserviceaccount.com"
  }
}

# Topics

override_resource {
  target = google_pubsub_topic.topic["gmail-notifications"]
  values = {
    id = "projects/my-project/topics/gmail-notifications"
  }
}

override_resource {
  target = google_pubsub_topic.topic["mailbox-work"]
  values = {
    id = "projects/my-project/topics/mailbox-work"
  }
}

override_resource {
  target = google_pubsub_topic.deltas
  values = {
    id = "projects/my-project/topics/mailbox-deltas"
  }
}

override_resource {
  target = google_pubsub_topic.dead_letters["gmail-notifications"]
  values = {
    id = "projects/my-project/topics/gmail-notifications-dead-letters"
  }
}

override_resource {
  target = google_pubsub_topic.dead_letters["mailbox-work"]
  values = {
    id = "projects/my-project/topics/mailbox-work-dead-letters"
  }
}
