locals {
  # How long a push may take, for the function and for Pub/Sub alike: 600 s is the most a push subscription waits. A worker begins
  # no slice after step_seconds; what is left is for the slice in hand.
  push_seconds = 600
  step_seconds = 480

  # How long an answer of manage_mailboxes may take, one to a user who consents or one to an application: what is asked, up to 100 s, and
  # after that a Gmail that does not answer, which is given up after 80 s.
  answer_seconds = 240

  # One row for each entry point of functions/main.py.
  #   concurrency  requests an instance serves at a time; above 1 Cloud Run wants a whole CPU. A request takes up to five times what
  #                25 messages hold: with bodies of 1 MB four of them were measured at 700 MiB. To read is less: of what Gmail gives
  #                133 MB for the largest attachment, 8 MB of documents, and next to nothing for whoever waits for a delta
  #   callers      who may call it: push, scheduler, admins, readers, or browsers, which are everybody's
  #   mirror       what it may do in Firestore: write, connect, which is to write without deleting, or read
  #   gmail        whether it opens mailboxes
  #   bodies       what it may do in the bucket of large bodies and attachments: write, which is to create, list and delete, read, or none
  #   publishes    whether it publishes work
  #   keeps        whether it keeps what users' consents leave behind
  #   forgets      whether it deletes that
  functions = { for name, function in local.every_function : name => function if function.callers != "browsers" || local.public_callback }

  every_function = {
    sync_history = {
      description = "Catches a mailbox up when Gmail notifies."
      memory      = "1Gi", cpu = "1", concurrency = 4, timeout = local.push_seconds, instances = var.max_instances
      ingress     = "ALLOW_INTERNAL_ONLY", callers = "push", mirror = "write", gmail = true, bodies = "write", publishes = true, keeps = false, forgets = false
    }
    run_work = {
      description = "Does one step of whatever a mailbox needs: catch up, a run's slices, a renewal."
      memory      = "1Gi", cpu = "1", concurrency = 4, timeout = local.push_seconds, instances = var.max_instances
      ingress     = "ALLOW_INTERNAL_ONLY", callers = "push", mirror = "write", gmail = true, bodies = "write", publishes = true, keeps = false, forgets = true
    }
    renew_watches = {
      description = "Publishes a renewal for each watch that is due."
      memory      = "256Mi", cpu = null, concurrency = 1, timeout = 300, instances = 1
      ingress     = "ALLOW_INTERNAL_ONLY", callers = "scheduler", mirror = "read", gmail = false, bodies = "none", publishes = true, keeps = false, forgets = false
    }
    sweep_mailboxes = {
      description = "Publishes work for each mailbox that is due."
      memory      = "256Mi", cpu = null, concurrency = 1, timeout = 300, instances = 1
      ingress     = "ALLOW_INTERNAL_ONLY", callers = "scheduler", mirror = "read", gmail = false, bodies = "none", publishes = true, keeps = false, forgets = false
    }
    trigger_sync = {
      description = "Syncs a mailbox when an administrator asks."
      memory      = "512Mi", cpu = "1", concurrency = 1, timeout = 540, instances = 5
      ingress     = "ALLOW_ALL", callers = "admins", mirror = "write", gmail = true, bodies = "write", publishes = true, keeps = false, forgets = false
    }
    manage_mailboxes = {
      description = "Connects, plans, shows, stops and deletes mailboxes for administrators."
      memory      = "512Mi", cpu = null, concurrency = 1, timeout = local.answer_seconds, instances = 5
      ingress     = "ALLOW_ALL", callers = "admins", mirror = "write", gmail = true, bodies = "write", publishes = true, keeps = true, forgets = true
    }
    read_mailboxes = {
      description = "Gives applications threads, messages, attachments and deltas."
      memory      = "2Gi", cpu = "1", concurrency = 12, timeout = local.answer_seconds, instances = var.max_instances
      ingress     = "ALLOW_ALL", callers = "readers", mirror = "read", gmail = true, bodies = "read", publishes = false, keeps = false, forgets = false
    }
    oauth_callback = {
      description = "Takes in the consent that a user has just given in the browser."
      memory      = "512Mi", cpu = null, concurrency = 1, timeout = local.answer_seconds, instances = 2
      ingress     = "ALLOW_ALL", callers = "browsers", mirror = "connect", gmail = true, bodies = "none", publishes = true, keeps = true, forgets = true
    }
  }

  labels = merge(var.labels, { app = "mailmirror" })

  # The number has no other source that needs no permission of its own and no API that a new project lacks.
  project_number = google_storage_bucket.source.project_number

  # A browser carries no identity token: where users consent in their own, one function is public, and serves nothing else. Its address
  # has to be known before it is made, as all functions are told it.
  # https://docs.cloud.google.com/run/docs/triggering/https-request#deterministic
  public_callback = var.gmail_auth == "oauth" && var.public_consent
  redirect_uri    = "https://mailmirror-oauth-callback-${local.project_number}.${var.region}.run.app/oauth/callback"

  # What functions/mailmirror/adapters/directory.py asks for.
  directory_scopes = var.directory_admin == "" ? [] : [
    "https://www.googleapis.com/auth/admin.directory.group.member.readonly",
    "https://www.googleapis.com/auth/admin.directory.user.readonly",
  ]

  body_bucket  = var.body_bucket == null ? google_storage_bucket.bodies[0].name : var.body_bucket
  token_prefix = "mailmirror-token-"

  # What functions/mailmirror/config.py reads; what is not here has a default there.
  environment = merge(
    {
      GOOGLE_CLOUD_PROJECT        = var.project
      FIRESTORE_DATABASE          = var.firestore_database
      GMAIL_TOPIC                 = "projects/${var.project}/topics/${google_pubsub_topic.topic["gmail-notifications"].name}"
      WORK_TOPIC                  = "projects/${var.project}/topics/${google_pubsub_topic.topic["mailbox-work"].name}"
      DELTA_TOPIC                 = var.delta_topic ? "projects/${var.project}/topics/${google_pubsub_topic.deltas[0].name}" : ""
      BODY_BUCKET                 = local.body_bucket
      ATTACHMENTS                 = var.attachments
      GMAIL_AUTH                  = var.gmail_auth
      GMAIL_CONTENT               = var.gmail_content
      GMAIL_SCOPES                = join(" ", var.gmail_scopes)
      GMAIL_UNITS_PER_MINUTE      = tostring(var.gmail_units_per_minute)
      GMAIL_UNITS_PER_DAY         = var.gmail_units_per_day == null ? "" : tostring(var.gmail_units_per_day)
      GMAIL_PRICES                = var.gmail_prices
      RECOVERY                    = var.recovery
      WATCH_LABEL_IDS             = join(",", var.watch_label_ids)
      WATCH_LABEL_FILTER_BEHAVIOR = var.watch_label_filter_behavior
      SWEEP_QUIET_MINUTES         = tostring(var.sweep_quiet_minutes)
      STEP_SECONDS                = tostring(local.step_seconds)
      LOG_LEVEL                   = var.log_level
    },
    var.gmail_auth == "delegation" ? {
      GMAIL_DELEGATE  = google_service_account.delegate[0].email
      DIRECTORY_ADMIN = var.directory_admin
    } : {},
    var.gmail_auth == "oauth" ? {
      GMAIL_OAUTH_CLIENT = "projects/${var.project}/secrets/${google_secret_manager_secret.oauth_client[0].secret_id}"
      GMAIL_TOKEN_PREFIX = "projects/${var.project}/secrets/${local.token_prefix}"
      OAUTH_REDIRECT_URI = local.public_callback ? local.redirect_uri : ""
    } : {},
  )
}

# The bundle: functions/ and nothing else. Its name is its content, so that a changed file, and only that, deploys anew.

data "archive_file" "functions" {
  type             = "zip"
  source_dir       = "${path.module}/../functions"
  output_path      = "${path.module}/build/functions.zip"
  output_file_mode = "0644"
  # Hidden files have a name after the dot: the folder itself is asked about as `.`, and would be left out with all that is in it.
  # The store in a file is for one machine: an instance's disk ends with it.
  excludes = ["**/__pycache__/**", "**/*.pyc", "**/.?*", "**/*.sqlite", "**/*.sqlite-*", "mailmirror/adapters/sqlite.py"]
}

resource "google_storage_bucket_object" "functions" {
  bucket = google_storage_bucket.source.name
  name   = "functions-${data.archive_file.functions.output_sha256}.zip"
  source = data.archive_file.functions.output_path
}

resource "google_cloudfunctions2_function" "function" {
  # checkov:skip=CKV_GCP_124:Administrators and applications call three functions from outside, and Cloud Run lets in only the members of admins and readers; a fourth is public if asked for.

  for_each = local.functions

  name         = "mailmirror-${replace(each.key, "_", "-")}"
  location     = var.region
  description  = each.value.description
  kms_key_name = var.kms_key
  labels       = local.labels

  build_config {
    runtime           = "python313"
    entry_point       = each.key
    docker_repository = google_artifact_registry_repository.images.id
    service_account   = google_service_account.build.id

    source {
      storage_source {
        bucket = google_storage_bucket_object.functions.bucket
        object = google_storage_bucket_object.functions.name
      }
    }
  }

  service_config {
    available_memory                 = each.value.memory
    available_cpu                    = each.value.cpu
    max_instance_request_concurrency = each.value.concurrency
    timeout_seconds                  = each.value.timeout
    min_instance_count               = 0
    max_instance_count               = each.value.instances
    ingress_settings                 = each.value.ingress
    all_traffic_on_latest_revision   = true
    service_account_email            = google_service_account.function[each.key].email
    vpc_connector                    = one(var.vpc[*].connector)
    vpc_connector_egress_settings    = one(var.vpc[*].egress)

    environment_variables = merge(local.environment, {
      THREADS          = tostring(each.value.concurrency)
      LOG_EXECUTION_ID = "true"
      # Cloud Storage's client would ask for the bucket's metadata, which the functions have no right to and no use for.
      DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA = "true"
    })
  }

  # Nothing is written before the database is as it should be. Its indexes take minutes, even while it is empty: by then Google knows
  # everywhere what was given to the build's account, without which the first build would be refused its source.
  depends_on = [
    google_artifact_registry_repository_iam_member.build_writer,
    google_project_iam_member.build_logs,
    google_project_iam_member.build_source,
    google_firestore_field.unindexed,
    google_firestore_index.query,
  ]
}

# Images of older revisions go, the last few stay for a rollback.
resource "google_artifact_registry_repository" "images" {
  repository_id = "mailmirror"
  location      = var.region
  description   = "Images of Mailmirror's functions, written by Cloud Build."
  format        = "DOCKER"
  kms_key_name  = var.kms_key
  labels        = local.labels

  cleanup_policies {
    id     = "keep-the-last-five"
    action = "KEEP"

    most_recent_versions {
      keep_count = 5
    }
  }

  cleanup_policies {
    id     = "delete-after-a-month"
    action = "DELETE"

    condition {
      older_than = "2592000s"
    }
  }

  depends_on = [google_project_service.api]
}
