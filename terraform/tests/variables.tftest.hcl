# What each variable refuses. A plan costs more than a value, so each run gives every validated variable a wrong one of a kind and
# expects every one of them to be named; and one run gives values at the edge of what is right.

mock_provider "google" {
  source          = "./tests/mocks/google"
  override_during = plan
}

mock_provider "archive" {
  source          = "./tests/mocks/archive"
  override_during = plan
}

variables {
  project = "my-project"
  region  = "europe-west1"
}

run "empty" {
  command = plan

  variables {
    project                     = ""
    region                      = ""
    firestore_location          = ""
    storage_location            = ""
    scheduler_region            = ""
    admins                      = [""]
    readers                     = [""]
    gmail_auth                  = ""
    gmail_scopes                = []
    gmail_units_per_minute      = 0
    gmail_prices                = ""
    gmail_units_per_day         = 0
    recovery                    = ""
    watch_label_ids             = [""]
    watch_label_filter_behavior = ""
    sweep_quiet_minutes         = 0
    sweep_schedule              = ""
    renew_schedule              = ""
    max_instances               = 0
    log_level                   = ""
    vpc                         = { connector = "" }
    firestore_database          = ""
    backup_retention_days       = -1
    body_bucket                 = ""
    attachments                 = ""
    kms_key                     = ""
    firestore_kms_key           = ""
    notification_channels       = [""]
    labels                      = { "" = "" }
  }

  expect_failures = [
    var.project,
    var.region,
    var.firestore_location,
    var.storage_location,
    var.scheduler_region,
    var.admins,
    var.readers,
    var.gmail_auth,
    var.gmail_scopes,
    var.gmail_units_per_minute,
    var.gmail_prices,
    var.gmail_units_per_day,
    var.recovery,
    var.watch_label_ids,
    var.watch_label_filter_behavior,
    var.sweep_quiet_minutes,
    var.sweep_schedule,
    var.renew_schedule,
    var.max_instances,
    var.log_level,
    var.vpc,
    var.firestore_database,
    var.backup_retention_days,
    var.body_bucket,
    var.attachments,
    var.kms_key,
    var.firestore_kms_key,
    var.notification_channels,
    var.labels,
  ]
}

run "almost_right" {
  command = plan

  variables {
    project                     = "My-Project"
    region                      = "europe-west1-b"
    firestore_location          = "eur4"
    storage_location            = "europe_west1"
    scheduler_region            = "eur3"
    admins                      = ["group:mail-admins"]
    readers                     = ["reader@my-project.iam.gserviceaccount.com"]
    gmail_auth                  = "Delegation"
    gmail_scopes                = ["gmail.readonly"]
    gmail_units_per_minute      = 499
    gmail_prices                = "2025"
    gmail_units_per_day         = 9999
    recovery                    = "Full"
    watch_label_ids             = ["INBOX,SENT"]
    watch_label_filter_behavior = "INCLUDE"
    sweep_quiet_minutes         = -15
    sweep_schedule              = "0 */5 * * * *"
    renew_schedule              = "17 3 * * * 2026"
    max_instances               = 1.5
    log_level                   = "info"
    vpc                         = { connector = "my-connector" }
    firestore_database          = "(other)"
    backup_retention_days       = 7.5
    body_bucket                 = "gs://my-bodies"
    attachments                 = "inline"
    kms_key                     = "my-ring/my-key"
    firestore_kms_key           = "projects/my-project/locations/europe/keyRings/my-ring/cryptoKeys/my-key/cryptoKeyVersions/1"
    notification_channels       = ["1234567890"]
    labels                      = { Team = "mail" }
  }

  expect_failures = [
    var.project,
    var.region,
    var.firestore_location,
    var.storage_location,
    var.scheduler_region,
    var.admins,
    var.readers,
    var.gmail_auth,
    var.gmail_scopes,
    var.gmail_units_per_minute,
    var.gmail_prices,
    var.gmail_units_per_day,
    var.recovery,
    var.watch_label_ids,
    var.watch_label_filter_behavior,
    var.sweep_quiet_minutes,
    var.sweep_schedule,
    var.renew_schedule,
    var.max_instances,
    var.log_level,
    var.vpc,
    var.firestore_database,
    var.backup_retention_days,
    var.body_bucket,
    var.attachments,
    var.kms_key,
    var.firestore_kms_key,
    var.notification_channels,
    var.labels,
  ]
}

run "too_much" {
  command = plan

  variables {
    project                = "a-project-with-an-id-of-31-chars"
    admins                 = ["allUsers"]
    readers                = ["allAuthenticatedUsers"]
    gmail_scopes           = ["https://www.googleapis.com/auth/gmail.readonly", "https://www.googleapis.com/auth/drive"]
    gmail_units_per_minute = 1000000000
    gmail_units_per_day    = 1000000000000
    directory_admin        = "root@example.com, ann@example.com"
    watch_label_ids        = ["INBOX", "My label"]
    sweep_quiet_minutes    = 1441
    max_instances          = 1001
    log_level              = "ERROR"
    vpc                    = { connector = "projects/my-project/locations/europe-west1/connectors/mine", egress = "ALL" }
    firestore_database     = "a-database-with-a-name-of-sixty-four-characters-which-is-too-long"
    backup_retention_days  = 99
    labels                 = { app = "mine" }
  }

  expect_failures = [
    var.project,
    var.admins,
    var.readers,
    var.gmail_scopes,
    var.gmail_units_per_minute,
    var.gmail_units_per_day,
    var.directory_admin,
    var.watch_label_ids,
    var.sweep_quiet_minutes,
    var.max_instances,
    var.log_level,
    var.vpc,
    var.firestore_database,
    var.backup_retention_days,
    var.labels,
  ]
}

run "people" {
  command = plan

  variables {
    admins                 = ["group:mail-admins@example.com", "user:ann@example.com"]
    readers                = ["domain:example.com"]
    gmail_scopes           = ["https://www.googleapis.com/auth/gmail.metadata"]
    gmail_units_per_minute = 1000.5
    gmail_units_per_day    = 10000.5
    directory_admin        = "root"
  }

  expect_failures = [
    var.admins,
    var.readers,
    var.gmail_scopes,
    var.gmail_units_per_minute,
    var.gmail_units_per_day,
    var.directory_admin,
  ]
}

# What depends on it is not looked at when it is wrong.
run "no_content" {
  command = plan

  variables {
    gmail_content = ""
  }

  expect_failures = [
    var.gmail_content,
  ]
}

run "almost_full_content" {
  command = plan

  variables {
    gmail_content = "Full"
  }

  expect_failures = [
    var.gmail_content,
  ]
}

run "attachments_where_there_are_none" {
  command = plan

  variables {
    gmail_content = "metadata"
    attachments   = "store"
  }

  expect_failures = [
    var.attachments,
  ]
}

run "a_scope_that_reads_no_whole_message" {
  command = plan

  variables {
    gmail_scopes = ["https://www.googleapis.com/auth/gmail.readonly", "https://www.googleapis.com/auth/gmail.metadata"]
  }

  expect_failures = [
    var.gmail_scopes,
  ]
}

run "consent_where_nobody_consents" {
  command = plan

  variables {
    public_consent = true
  }

  expect_failures = [
    var.public_consent,
  ]
}

run "a_directory_where_nobody_delegates" {
  command = plan

  variables {
    gmail_auth      = "oauth"
    directory_admin = "root@example.com"
  }

  expect_failures = [
    var.directory_admin,
  ]
}

run "settings_of_a_database_that_is_not_created" {
  command = plan

  variables {
    create_firestore_database = false
    firestore_location        = "eur3"
    firestore_kms_key         = "projects/my-keys/locations/europe/keyRings/my-ring/cryptoKeys/my-key"
  }

  expect_failures = [
    var.firestore_location,
    var.firestore_kms_key,
  ]
}

run "just_right" {
  command = plan

  variables {
    project                     = "abc-12"
    region                      = "northamerica-northeast1"
    firestore_location          = "nam5"
    storage_location            = "EUR4"
    scheduler_region            = "us-central1"
    admins                      = ["group:mail-admins@example.com", "serviceAccount:bot@my-project.iam.gserviceaccount.com"]
    readers                     = ["serviceAccount:app@my-project.iam.gserviceaccount.com"]
    gmail_scopes                = ["https://mail.google.com/", "https://www.googleapis.com/auth/gmail.modify"]
    gmail_units_per_minute      = 500
    gmail_prices                = "legacy"
    gmail_units_per_day         = 10000
    recovery                    = "full"
    directory_admin             = "root@example.com"
    watch_label_ids             = ["INBOX", "Label_12"]
    watch_label_filter_behavior = "exclude"
    sweep_quiet_minutes         = 0.5
    sweep_schedule              = "*/2 6-22 * * 1-5"
    renew_schedule              = "0 0 * * *"
    max_instances               = 1000
    log_level                   = "DEBUG"
    vpc                         = { connector = "projects/my-project/locations/europe-west1/connectors/mine" }
    firestore_database          = "mail"
    backup_retention_days       = 98
    body_bucket                 = "bodies.example.com"
    attachments                 = "store"
    kms_key                     = "projects/my-keys/locations/northamerica-northeast1/keyRings/my-ring/cryptoKeys/my-key"
    firestore_kms_key           = "projects/my-keys/locations/us/keyRings/my-ring/cryptoKeys/my-key"
    notification_channels       = ["projects/my-project/notificationChannels/1234567890"]
    labels                      = { team = "mail", cost_centre = "" }
  }

  assert {
    condition     = google_firestore_backup_schedule.daily[0].retention == "8467200s"
    error_message = "14 weeks of backups are allowed, and asked for in seconds."
  }

  assert {
    condition     = google_cloudfunctions2_function.function["run_work"].service_config[0].environment_variables.SWEEP_QUIET_MINUTES == "0.5"
    error_message = "Half a minute is passed as such."
  }

  assert {
    condition     = google_cloudfunctions2_function.function["run_work"].service_config[0].environment_variables.WATCH_LABEL_IDS == "INBOX,Label_12"
    error_message = "Labels are passed with commas in between."
  }
}
