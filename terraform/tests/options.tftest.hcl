# What each option changes, and what stays safe without it.

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

run "defaults" {
  command = plan

  assert {
    condition = (
      google_firestore_database.main[0].name == "(default)" &&
      google_firestore_database.main[0].location_id == "europe-west1" &&
      google_firestore_database.main[0].type == "FIRESTORE_NATIVE"
    )
    error_message = "A database in Native mode is created in the region."
  }

  assert {
    condition = (
      google_firestore_database.main[0].delete_protection_state == "DELETE_PROTECTION_ENABLED" &&
      google_firestore_database.main[0].deletion_policy == "ABANDON" &&
      google_firestore_database.main[0].point_in_time_recovery_enablement == "POINT_IN_TIME_RECOVERY_ENABLED" &&
      google_firestore_backup_schedule.daily[0].retention == "604800s" &&
      google_storage_bucket.bodies[0].force_destroy == false &&
      google_storage_bucket.bodies[0].soft_delete_policy[0].retention_duration_seconds == 604800
    )
    error_message = "Mail is protected from deletion and can be brought back for a week."
  }

  assert {
    condition = alltrue([
      for bucket in [google_storage_bucket.source, google_storage_bucket.bodies[0]] :
      bucket.location == "europe-west1" && bucket.uniform_bucket_level_access && bucket.public_access_prevention == "enforced"
    ])
    error_message = "Buckets are in the region, governed by IAM alone and never public."
  }

  assert {
    condition     = alltrue([for rule in google_storage_bucket.bodies[0].lifecycle_rule : one(rule.action).type != "Delete"])
    error_message = "No rule deletes the body of a message that is still mirrored."
  }

  assert {
    condition     = alltrue([for function in google_cloudfunctions2_function.function : function.service_config[0].vpc_connector == null])
    error_message = "Without a connector traffic goes out directly."
  }

  assert {
    condition     = length(google_logging_project_exclusion.callback) == 0
    error_message = "Where nobody consents, no request is kept out of the log."
  }

  assert {
    condition     = alltrue([for service in google_project_service.api : service.disable_on_destroy == false])
    error_message = "Destroying Mailmirror leaves APIs enabled for whatever else uses them."
  }
}

run "what_is_not_asked_for" {
  command = plan

  variables {
    gmail_auth = "oauth"
  }

  assert {
    condition = (
      !contains(keys(google_cloudfunctions2_function.function), "oauth_callback") &&
      !contains(keys(google_service_account.function), "oauth_callback") &&
      length(google_project_iam_custom_role.mirror_connector) == 0 &&
      output.oauth_redirect_uri == null
    )
    error_message = "Without public_consent nothing is there that everybody could call, nor an account or a role for it."
  }

  assert {
    condition     = length(google_logging_project_exclusion.callback) == 1
    error_message = "The codes of consents stay out of the log, whichever function serves the callback."
  }

  assert {
    condition     = !contains(keys(google_project_service.api), "admin.googleapis.com")
    error_message = "Without directory_admin nobody lists people."
  }

  assert {
    condition = (
      length(google_pubsub_topic.deltas) == 0 && length(google_pubsub_topic_iam_binding.delta_publisher) == 0 && output.delta_topic == null
    )
    error_message = "Without delta_topic there is no topic for applications."
  }

  assert {
    condition = alltrue([
      for function in google_cloudfunctions2_function.function : (
        function.service_config[0].environment_variables.OAUTH_REDIRECT_URI == "" &&
        function.service_config[0].environment_variables.GMAIL_UNITS_PER_DAY == "" &&
        function.service_config[0].environment_variables.RECOVERY == "thread-history" &&
        function.service_config[0].environment_variables.GMAIL_CONTENT == "full" &&
        function.service_config[0].environment_variables.ATTACHMENTS == "none" &&
        function.service_config[0].environment_variables.DELTA_TOPIC == ""
      )
    ])
    error_message = "Users consent at a terminal, a day has no limit, after lost history only what changed is fetched, and attachments stay in Gmail."
  }
}

run "public_consent" {
  command = plan

  variables {
    gmail_auth     = "oauth"
    public_consent = true
    region         = "europe-west4"
  }

  assert {
    condition = alltrue([
      for function in google_cloudfunctions2_function.function : (
        function.service_config[0].environment_variables.OAUTH_REDIRECT_URI
        == "https://mailmirror-oauth-callback-123456789012.europe-west4.run.app/oauth/callback"
      )
    ])
    error_message = "Users are sent to the address that the function for them has by its name, the project and the region."
  }

  assert {
    condition     = output.oauth_redirect_uri == google_cloudfunctions2_function.function["manage_mailboxes"].service_config[0].environment_variables.OAUTH_REDIRECT_URI
    error_message = "The output is what Google has to be told."
  }

  # https://docs.cloud.google.com/run/docs/triggering/https-request#deterministic
  assert {
    condition     = length(split(".", trimprefix(output.oauth_redirect_uri, "https://"))[0]) <= 63
    error_message = "There is no such address for a longer name."
  }
}

run "directory" {
  command = plan

  variables {
    directory_admin = "root@example.com"
  }

  assert {
    condition     = contains(keys(google_project_service.api), "admin.googleapis.com")
    error_message = "The API that lists people is enabled."
  }

  assert {
    condition     = google_cloudfunctions2_function.function["manage_mailboxes"].service_config[0].environment_variables.DIRECTORY_ADMIN == "root@example.com"
    error_message = "The function that lists people is told as whom."
  }

  assert {
    condition = output.delegation.scopes == join(",", [
      "https://www.googleapis.com/auth/gmail.readonly",
      "https://www.googleapis.com/auth/admin.directory.group.member.readonly",
      "https://www.googleapis.com/auth/admin.directory.user.readonly",
    ])
    error_message = "The Workspace administrator is told the scopes for people too, which only read."
  }
}

run "deltas_published" {
  command = plan

  variables {
    delta_topic = true
    kms_key     = "projects/my-project/locations/europe-west1/keyRings/my-ring/cryptoKeys/my-key"
    labels      = { team = "mail" }
  }

  assert {
    condition = (
      google_pubsub_topic.deltas[0].name == "mailbox-deltas" &&
      google_pubsub_topic.deltas[0].kms_key_name == var.kms_key &&
      google_pubsub_topic.deltas[0].labels == tomap({ app = "mailmirror", team = "mail" }) &&
      google_pubsub_topic.deltas[0].message_retention_duration == "604800s"
    )
    error_message = "The topic is like the others, and keeps what was published for a week."
  }

  assert {
    condition = alltrue([
      for function in google_cloudfunctions2_function.function :
      function.service_config[0].environment_variables.DELTA_TOPIC == output.delta_topic
    ])
    error_message = "The functions publish to the topic that the output names."
  }
}

run "quota_and_recovery" {
  command = plan

  variables {
    gmail_units_per_day = 1000000
    recovery            = "full"
  }

  assert {
    condition = alltrue([
      for function in google_cloudfunctions2_function.function : (
        function.service_config[0].environment_variables.GMAIL_UNITS_PER_DAY == "1000000" &&
        function.service_config[0].environment_variables.RECOVERY == "full"
      )
    ])
    error_message = "The functions are told both."
  }
}

run "metadata_alone" {
  command = plan

  variables {
    gmail_content = "metadata"
    gmail_scopes  = ["https://www.googleapis.com/auth/gmail.metadata"]
  }

  assert {
    condition = alltrue([
      for function in google_cloudfunctions2_function.function : (
        function.service_config[0].environment_variables.GMAIL_CONTENT == "metadata" &&
        function.service_config[0].environment_variables.ATTACHMENTS == "none" &&
        function.service_config[0].environment_variables.GMAIL_SCOPES == "https://www.googleapis.com/auth/gmail.metadata"
      )
    ])
    error_message = "Where no body is mirrored, the scope that reads none is enough."
  }
}

run "attachments_kept" {
  command = plan

  variables {
    attachments = "store"
  }

  assert {
    condition = alltrue([
      for function in google_cloudfunctions2_function.function : (
        function.service_config[0].environment_variables.GMAIL_CONTENT == "full" &&
        function.service_config[0].environment_variables.ATTACHMENTS == "store" &&
        function.service_config[0].environment_variables.BODY_BUCKET == google_storage_bucket.bodies[0].name
      )
    ])
    error_message = "The functions are told to keep attachments, and where."
  }
}

run "existing_database_and_bucket" {
  command = plan

  variables {
    create_firestore_database = false
    firestore_database        = "existing"
    body_bucket               = "existing-bodies"
    readers                   = ["group:readers@example.com"]
  }

  assert {
    condition = alltrue([
      for index in google_firestore_index.query : index.timeouts.create == "60m" && index.timeouts.delete == "60m"
    ])
    error_message = "On a database that is full already an index may take longer than the provider waits by itself."
  }

  assert {
    condition     = length(google_firestore_database.main) == 0 && length(google_storage_bucket.bodies) == 0
    error_message = "Neither is created."
  }

  assert {
    condition = alltrue(concat(
      [for index in google_firestore_index.query : index.database == "existing"],
      [for field in google_firestore_field.unindexed : field.database == "existing"],
      [for field in google_firestore_field.ttl : field.database == "existing"],
      [google_firestore_backup_schedule.daily[0].database == "existing"],
    ))
    error_message = "Indexes, exemptions, the TTL policies and the backups are the existing database's."
  }

  assert {
    condition = alltrue([
      for grant in concat(values(google_project_iam_member.mirror), values(google_project_iam_member.reader)) :
      grant.condition[0].expression == "resource.name == \"projects/my-project/databases/existing\""
    ])
    error_message = "Rights are for the existing database."
  }

  assert {
    condition = alltrue([
      for grant in concat(
        values(google_storage_bucket_iam_member.body_writer),
        values(google_storage_bucket_iam_member.body_reader),
        values(google_storage_bucket_iam_member.reader),
      ) :
      grant.bucket == "existing-bodies"
    ])
    error_message = "Rights are for the existing bucket."
  }

  assert {
    condition = alltrue([
      for function in google_cloudfunctions2_function.function : (
        function.service_config[0].environment_variables.FIRESTORE_DATABASE == "existing" &&
        function.service_config[0].environment_variables.BODY_BUCKET == "existing-bodies"
      )
    ])
    error_message = "The functions are told both."
  }

  assert {
    condition     = output.firestore_database == "existing" && output.body_bucket == "existing-bodies"
    error_message = "The outputs tell both."
  }
}

run "keys" {
  command = plan

  variables {
    gmail_auth        = "oauth"
    kms_key           = "projects/my-project/locations/europe-west1/keyRings/my-ring/cryptoKeys/my-key"
    firestore_kms_key = "projects/my-project/locations/europe-west1/keyRings/my-ring/cryptoKeys/my-database-key"
  }

  assert {
    condition = alltrue([
      for topic in concat(values(google_pubsub_topic.topic), values(google_pubsub_topic.dead_letters)) : topic.kms_key_name == var.kms_key
    ])
    error_message = "Topics are encrypted with the key."
  }

  assert {
    condition = alltrue([
      for bucket in [google_storage_bucket.source, google_storage_bucket.bodies[0]] :
      bucket.encryption[0].default_kms_key_name == var.kms_key
    ])
    error_message = "Buckets are encrypted with the key."
  }

  assert {
    condition = (
      alltrue([for function in google_cloudfunctions2_function.function : function.kms_key_name == var.kms_key]) &&
      google_artifact_registry_repository.images.kms_key_name == var.kms_key
    )
    error_message = "Functions and their images are encrypted with the key."
  }

  assert {
    condition = alltrue([
      for replica in google_secret_manager_secret.oauth_client[0].replication[0].user_managed[0].replicas :
      replica.customer_managed_encryption[0].kms_key_name == var.kms_key
    ])
    error_message = "The secret is encrypted with the key."
  }

  assert {
    condition     = google_firestore_database.main[0].cmek_config[0].kms_key_name == var.firestore_kms_key
    error_message = "The database is encrypted with its own key."
  }
}

run "places_labels_and_network" {
  command = plan

  variables {
    gmail_auth         = "oauth"
    region             = "europe-west4"
    firestore_location = "eur3"
    storage_location   = "EU"
    scheduler_region   = "europe-west1"
    labels             = { team = "mail" }
    vpc                = { connector = "projects/my-project/locations/europe-west4/connectors/mine", egress = "ALL_TRAFFIC" }
  }

  assert {
    condition = (
      google_firestore_database.main[0].location_id == "eur3" &&
      google_storage_bucket.source.location == "EU" &&
      google_storage_bucket.bodies[0].location == "EU" &&
      alltrue([for job in google_cloud_scheduler_job.job : job.region == "europe-west1"]) &&
      alltrue([for function in google_cloudfunctions2_function.function : function.location == "europe-west4"]) &&
      alltrue([for binding in google_cloud_run_service_iam_binding.invoker : binding.location == "europe-west4"]) &&
      google_artifact_registry_repository.images.location == "europe-west4"
    )
    error_message = "Everything is where it was asked for, or else in the region."
  }

  assert {
    condition = alltrue([
      for labelled in concat(
        values(google_pubsub_topic.topic),
        values(google_pubsub_topic.dead_letters),
        values(google_pubsub_subscription.push),
        values(google_pubsub_subscription.dead_letters),
        values(google_cloudfunctions2_function.function),
        [google_storage_bucket.source, google_storage_bucket.bodies[0]],
        [google_artifact_registry_repository.images, google_secret_manager_secret.oauth_client[0]],
      ) : labelled.labels == tomap({ team = "mail", app = "mailmirror" })
    ])
    error_message = "Whatever can have labels has these, and the app's own."
  }

  assert {
    condition = alltrue([
      for function in google_cloudfunctions2_function.function : (
        function.service_config[0].vpc_connector == var.vpc.connector &&
        function.service_config[0].vpc_connector_egress_settings == "ALL_TRAFFIC"
      )
    ])
    error_message = "Traffic goes out through the connector."
  }
}

run "unprotected" {
  command = plan

  variables {
    delete_protection      = false
    point_in_time_recovery = false
    backup_retention_days  = 0
  }

  assert {
    condition = (
      google_firestore_database.main[0].delete_protection_state == "DELETE_PROTECTION_DISABLED" &&
      google_firestore_database.main[0].deletion_policy == "DELETE" &&
      google_storage_bucket.bodies[0].force_destroy == true
    )
    error_message = "Without protection `terraform destroy` leaves nothing."
  }

  assert {
    condition = (
      google_firestore_database.main[0].point_in_time_recovery_enablement == "POINT_IN_TIME_RECOVERY_DISABLED" &&
      length(google_firestore_backup_schedule.daily) == 0
    )
    error_message = "Nothing is kept that was not asked for."
  }
}

run "token_creator" {
  command = plan

  variables {
    grant_token_creator = true
  }

  assert {
    condition = (
      google_service_account_iam_member.token_creator[0].service_account_id == google_service_account.push.name &&
      google_service_account_iam_member.token_creator[0].role == "roles/iam.serviceAccountTokenCreator" &&
      google_service_account_iam_member.token_creator[0].member == "serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com"
    )
    error_message = "Pub/Sub's service agent makes tokens for the push account, and for no other."
  }
}
