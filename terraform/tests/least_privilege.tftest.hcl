# Who may do what, and that nobody may do more.

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

run "publishers" {
  command = plan

  assert {
    condition = (
      google_pubsub_topic_iam_binding.gmail_publisher.topic == google_pubsub_topic.topic["gmail-notifications"].name &&
      google_pubsub_topic_iam_binding.gmail_publisher.role == "roles/pubsub.publisher" &&
      google_pubsub_topic_iam_binding.gmail_publisher.members == toset(["serviceAccount:gmail-api-push@system.gserviceaccount.com"])
    )
    error_message = "Gmail, and nobody else, publishes notifications."
  }

  assert {
    condition = (
      google_pubsub_topic_iam_binding.work_publisher.topic == google_pubsub_topic.topic["mailbox-work"].name &&
      google_pubsub_topic_iam_binding.work_publisher.role == "roles/pubsub.publisher" &&
      google_pubsub_topic_iam_binding.work_publisher.members == toset([
        for entry_point, account in google_service_account.function : account.member if entry_point != "read_mailboxes"
      ])
    )
    error_message = "The functions, but for the one that only reads, and nobody else publish work."
  }

  assert {
    condition = alltrue([
      for name, binding in google_pubsub_topic_iam_binding.dead_letter_publisher : (
        binding.topic == google_pubsub_topic.dead_letters[name].name && binding.role == "roles/pubsub.publisher" &&
        binding.members == toset(["serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com"])
      )
    ])
    error_message = "Pub/Sub's service agent, and nobody else, publishes dead letters."
  }

  assert {
    condition = alltrue([
      for name, member in google_pubsub_subscription_iam_member.dead_letter_subscriber : (
        member.subscription == google_pubsub_subscription.push[name].name && member.role == "roles/pubsub.subscriber" &&
        member.member == "serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com"
      )
    ])
    error_message = "Pub/Sub's service agent takes dead letters from the push subscriptions."
  }

  assert {
    condition     = length(google_service_account_iam_member.token_creator) == 0
    error_message = "Nobody makes tokens for the push account unless that is asked for."
  }
}

run "publishers_of_deltas" {
  command = plan

  variables {
    delta_topic = true
  }

  assert {
    condition = (
      google_pubsub_topic_iam_binding.delta_publisher[0].topic == google_pubsub_topic.deltas[0].name &&
      google_pubsub_topic_iam_binding.delta_publisher[0].role == "roles/pubsub.publisher" &&
      google_pubsub_topic_iam_binding.delta_publisher[0].members == toset([
        for entry_point in ["sync_history", "run_work", "trigger_sync", "manage_mailboxes"] :
        google_service_account.function[entry_point].member
      ])
    )
    error_message = "The functions that write the mirror, and nobody else, publish its changes."
  }
}

run "callers" {
  command = plan

  assert {
    condition = {
      for entry_point, binding in google_cloud_run_service_iam_binding.invoker : entry_point => binding.members
      } == {
      sync_history    = toset([google_service_account.push.member])
      run_work        = toset([google_service_account.push.member])
      renew_watches   = toset([google_service_account.scheduler.member])
      sweep_mailboxes = toset([google_service_account.scheduler.member])
    }
    error_message = "Pub/Sub calls two functions and the scheduler two; without admins and readers nobody calls the others."
  }

  assert {
    condition = alltrue([
      for entry_point, binding in google_cloud_run_service_iam_binding.invoker : (
        binding.role == "roles/run.invoker" && binding.service == google_cloudfunctions2_function.function[entry_point].name &&
        binding.location == google_cloudfunctions2_function.function[entry_point].location
      )
    ])
    error_message = "Each may call the one function, and no more."
  }

  assert {
    condition = {
      for entry_point, function in google_cloudfunctions2_function.function : entry_point => function.service_config[0].ingress_settings
      } == {
      sync_history     = "ALLOW_INTERNAL_ONLY"
      run_work         = "ALLOW_INTERNAL_ONLY"
      renew_watches    = "ALLOW_INTERNAL_ONLY"
      sweep_mailboxes  = "ALLOW_INTERNAL_ONLY"
      trigger_sync     = "ALLOW_ALL"
      manage_mailboxes = "ALLOW_ALL"
      read_mailboxes   = "ALLOW_ALL"
    }
    error_message = "What Google calls is not reached from outside."
  }
}

run "admins_and_readers" {
  command = plan

  variables {
    admins  = ["group:mail-admins@example.com"]
    readers = ["serviceAccount:app@my-project.iam.gserviceaccount.com"]
  }

  assert {
    condition = {
      for entry_point, binding in google_cloud_run_service_iam_binding.invoker : entry_point => binding.members
      } == {
      sync_history     = toset([google_service_account.push.member])
      run_work         = toset([google_service_account.push.member])
      renew_watches    = toset([google_service_account.scheduler.member])
      sweep_mailboxes  = toset([google_service_account.scheduler.member])
      trigger_sync     = toset(["group:mail-admins@example.com"])
      manage_mailboxes = toset(["group:mail-admins@example.com"])
      read_mailboxes   = toset(["serviceAccount:app@my-project.iam.gserviceaccount.com"])
    }
    error_message = "Admins call the functions made for them, readers the one that changes nothing."
  }

  assert {
    condition = alltrue([
      for member, grant in google_project_iam_member.reader : (
        grant.member == "serviceAccount:app@my-project.iam.gserviceaccount.com" && grant.project == "my-project" &&
        grant.role == google_project_iam_custom_role.mirror_reader.id &&
        grant.condition[0].expression == "resource.name == \"projects/my-project/databases/(default)\""
      )
    ]) && length(google_project_iam_member.reader) == 1
    error_message = "A reader reads the one database."
  }

  assert {
    condition = alltrue([
      for member, grant in google_storage_bucket_iam_member.reader : (
        grant.member == "serviceAccount:app@my-project.iam.gserviceaccount.com" && grant.role == "roles/storage.objectViewer" &&
        grant.bucket == google_storage_bucket.bodies[0].name
      )
    ]) && length(google_storage_bucket_iam_member.reader) == 1
    error_message = "A reader reads the large bodies and attachments."
  }
}

run "firestore" {
  command = plan

  variables {
    firestore_database = "mail"
  }

  assert {
    condition = {
      for entry_point, grant in google_project_iam_member.mirror : entry_point => grant.role
      } == {
      sync_history     = google_project_iam_custom_role.mirror_writer.id
      run_work         = google_project_iam_custom_role.mirror_writer.id
      renew_watches    = google_project_iam_custom_role.mirror_reader.id
      sweep_mailboxes  = google_project_iam_custom_role.mirror_reader.id
      trigger_sync     = google_project_iam_custom_role.mirror_writer.id
      manage_mailboxes = google_project_iam_custom_role.mirror_writer.id
      read_mailboxes   = google_project_iam_custom_role.mirror_reader.id
    }
    error_message = "Functions that only look for what is due, or only read, cannot write."
  }

  assert {
    condition = alltrue([
      for entry_point, grant in google_project_iam_member.mirror : (
        grant.member == google_service_account.function[entry_point].member &&
        grant.condition[0].expression == "resource.name == \"projects/my-project/databases/mail\""
      )
    ])
    error_message = "Each function reaches the one database."
  }

  assert {
    condition = google_project_iam_custom_role.mirror_writer.permissions == toset([
      "datastore.databases.get",
      "datastore.entities.create",
      "datastore.entities.delete",
      "datastore.entities.get",
      "datastore.entities.list",
      "datastore.entities.update",
    ])
    error_message = "A writer writes documents, not indexes, backups or the database."
  }

  assert {
    condition = google_project_iam_custom_role.mirror_reader.permissions == toset([
      "datastore.databases.get",
      "datastore.entities.get",
      "datastore.entities.list",
    ])
    error_message = "A reader reads documents."
  }
}

run "delegation" {
  command = plan

  assert {
    condition = {
      for entry_point, grant in google_service_account_iam_member.signer : entry_point => grant.member
      } == {
      for entry_point in ["sync_history", "run_work", "trigger_sync", "manage_mailboxes", "read_mailboxes"] :
      entry_point => google_service_account.function[entry_point].member
    }
    error_message = "Only functions that open mailboxes sign as the delegate."
  }

  assert {
    condition = alltrue([
      for grant in google_service_account_iam_member.signer : (
        grant.service_account_id == google_service_account.delegate[0].name && grant.role == google_project_iam_custom_role.signer[0].id
      )
    ])
    error_message = "They sign as the delegate and as nobody else."
  }

  assert {
    condition     = google_project_iam_custom_role.signer[0].permissions == toset(["iam.serviceAccounts.signJwt"])
    error_message = "To sign is all they may do with it: no keys, no access tokens, no acting as it."
  }

  assert {
    condition = (
      length(google_secret_manager_secret.oauth_client) == 0 &&
      length(google_secret_manager_secret_iam_member.oauth_client) == 0 &&
      length(google_project_iam_member.tokens) == 0 &&
      length(google_project_iam_custom_role.token_keeper) == 0 &&
      length(google_project_iam_member.token_keeper) == 0 &&
      length(google_project_iam_custom_role.token_remover) == 0 &&
      length(google_project_iam_member.token_remover) == 0
    )
    error_message = "Delegation knows no secrets."
  }
}

run "oauth" {
  command = plan

  variables {
    gmail_auth = "oauth"
  }

  assert {
    condition = (
      length(google_service_account.delegate) == 0 &&
      length(google_service_account_iam_member.signer) == 0 &&
      length(google_project_iam_custom_role.signer) == 0 &&
      output.delegation == null
    )
    error_message = "Consent needs no delegate."
  }

  assert {
    condition = {
      for entry_point, grant in google_secret_manager_secret_iam_member.oauth_client : entry_point => grant.member
      } == {
      for entry_point in ["sync_history", "run_work", "trigger_sync", "manage_mailboxes", "read_mailboxes"] :
      entry_point => google_service_account.function[entry_point].member
    }
    error_message = "Only functions that open mailboxes read the OAuth client."
  }

  assert {
    condition = alltrue([
      for grant in google_secret_manager_secret_iam_member.oauth_client : (
        grant.secret_id == google_secret_manager_secret.oauth_client[0].id && grant.role == "roles/secretmanager.secretAccessor"
      )
    ])
    error_message = "They read the value of that secret, and change nothing."
  }

  assert {
    condition = {
      for entry_point, grant in google_project_iam_member.tokens : entry_point => [grant.member, grant.role, grant.condition[0].expression]
      } == {
      for entry_point in ["sync_history", "run_work", "trigger_sync", "manage_mailboxes", "read_mailboxes"] : entry_point => [
        google_service_account.function[entry_point].member,
        "roles/secretmanager.secretAccessor",
        "resource.name.startsWith(\"projects/123456789012/secrets/mailmirror-token-\")",
      ]
    }
    error_message = "Of the project's secrets they read users' tokens, and no other."
  }

  assert {
    condition = {
      for entry_point, grant in google_project_iam_member.token_keeper : entry_point => [grant.member, grant.role, grant.condition[0].expression]
      } == {
      for entry_point in ["manage_mailboxes"] : entry_point => [
        google_service_account.function[entry_point].member,
        google_project_iam_custom_role.token_keeper[0].id,
        join(" || ", [
          "resource.type == \"cloudresourcemanager.googleapis.com/Project\"",
          "resource.name.startsWith(\"projects/123456789012/secrets/mailmirror-token-\")",
        ]),
      ]
    }
    error_message = "Who takes in consents makes secrets in the project, and fills those of users' tokens and no other."
  }

  # What is asked for on the project is let through whole: of these that is to create, and nothing that is there is shown or changed by it.
  assert {
    condition = google_project_iam_custom_role.token_keeper[0].permissions == toset([
      "secretmanager.secrets.create",
      "secretmanager.versions.add",
    ])
    error_message = "They make and fill secrets: they neither read, list nor delete them, nor say who may."
  }

  assert {
    condition = {
      for entry_point, grant in google_project_iam_member.token_remover : entry_point => [grant.member, grant.role, grant.condition[0].expression]
      } == {
      for entry_point in ["run_work", "manage_mailboxes"] : entry_point => [
        google_service_account.function[entry_point].member,
        google_project_iam_custom_role.token_remover[0].id,
        "resource.name.startsWith(\"projects/123456789012/secrets/mailmirror-token-\")",
      ]
    }
    error_message = "Who deletes mailboxes deletes the secrets of users' tokens, and no other."
  }

  assert {
    condition     = google_project_iam_custom_role.token_remover[0].permissions == toset(["secretmanager.secrets.delete"])
    error_message = "To delete is all that this lets them do."
  }

  assert {
    condition = alltrue([
      for function in google_cloudfunctions2_function.function : (
        function.service_config[0].environment_variables.GMAIL_OAUTH_CLIENT == google_secret_manager_secret.oauth_client[0].id &&
        function.service_config[0].environment_variables.GMAIL_TOKEN_PREFIX == "projects/my-project/secrets/mailmirror-token-"
      )
    ])
    error_message = "The functions are told where the client is and where the tokens are."
  }

  assert {
    condition     = output.oauth_client_secret == "mailmirror-oauth-client"
    error_message = "The output names the secret that the client is to be added to."
  }
}

run "public_consent" {
  command = plan

  variables {
    gmail_auth     = "oauth"
    public_consent = true
    admins         = ["group:mail-admins@example.com"]
    readers        = ["serviceAccount:app@my-project.iam.gserviceaccount.com"]
  }

  assert {
    condition = {
      for entry_point, binding in google_cloud_run_service_iam_binding.invoker : entry_point => [binding.service, binding.members]
      } == {
      sync_history     = ["mailmirror-sync-history", toset([google_service_account.push.member])]
      run_work         = ["mailmirror-run-work", toset([google_service_account.push.member])]
      renew_watches    = ["mailmirror-renew-watches", toset([google_service_account.scheduler.member])]
      sweep_mailboxes  = ["mailmirror-sweep-mailboxes", toset([google_service_account.scheduler.member])]
      trigger_sync     = ["mailmirror-trigger-sync", toset(["group:mail-admins@example.com"])]
      manage_mailboxes = ["mailmirror-manage-mailboxes", toset(["group:mail-admins@example.com"])]
      read_mailboxes   = ["mailmirror-read-mailboxes", toset(["serviceAccount:app@my-project.iam.gserviceaccount.com"])]
      oauth_callback   = ["mailmirror-oauth-callback", toset(["allUsers"])]
    }
    error_message = "Everybody calls one function, and it opens no other to anybody."
  }

  assert {
    condition = [
      google_cloudfunctions2_function.function["oauth_callback"].build_config[0].entry_point,
      google_cloudfunctions2_function.function["oauth_callback"].service_config[0].service_account_email,
      google_cloudfunctions2_function.function["oauth_callback"].service_config[0].ingress_settings,
      ] == [
      "oauth_callback",
      "mailmirror-oauth-callback@my-project.iam.gserviceaccount.com",
      "ALLOW_ALL",
    ]
    error_message = "That function serves the entry point for browsers alone, as an account of its own."
  }

  assert {
    condition = (
      google_cloudfunctions2_function.function["oauth_callback"].service_config[0].max_instance_count *
      google_cloudfunctions2_function.function["oauth_callback"].service_config[0].max_instance_request_concurrency <= 2
    )
    error_message = "Whoever calls it without end keeps two instances busy, and no more."
  }

  assert {
    condition = toset(flatten([
      [for grant in google_storage_bucket_iam_member.body_writer : grant.member],
      [for grant in google_storage_bucket_iam_member.body_reader : grant.member],
      [for grant in google_storage_bucket_iam_member.reader : grant.member],
      [for grant in google_project_iam_member.reader : grant.member],
      ])) == toset([
      google_service_account.function["sync_history"].member,
      google_service_account.function["run_work"].member,
      google_service_account.function["trigger_sync"].member,
      google_service_account.function["manage_mailboxes"].member,
      google_service_account.function["read_mailboxes"].member,
      "serviceAccount:app@my-project.iam.gserviceaccount.com",
    ])
    error_message = "It neither reads nor writes nor deletes large bodies."
  }

  assert {
    condition = (
      google_project_iam_member.mirror["oauth_callback"].role == google_project_iam_custom_role.mirror_connector[0].id &&
      google_project_iam_member.mirror["oauth_callback"].condition[0].expression == "resource.name == \"projects/my-project/databases/(default)\"" &&
      contains(google_pubsub_topic_iam_binding.work_publisher.members, google_service_account.function["oauth_callback"].member)
    )
    error_message = "It connects the mailbox in the one database, and publishes its work."
  }

  assert {
    condition = google_project_iam_custom_role.mirror_connector[0].permissions == toset([
      "datastore.databases.get",
      "datastore.entities.create",
      "datastore.entities.get",
      "datastore.entities.list",
      "datastore.entities.update",
    ])
    error_message = "It writes documents and deletes none."
  }

  assert {
    condition = alltrue([
      for grants in [google_secret_manager_secret_iam_member.oauth_client, google_project_iam_member.tokens] :
      keys(grants) == ["manage_mailboxes", "oauth_callback", "read_mailboxes", "run_work", "sync_history", "trigger_sync"]
    ])
    error_message = "It opens a mailbox with the client and with the consent that was given."
  }

  assert {
    condition = {
      for entry_point, grant in google_project_iam_member.token_keeper : entry_point => [grant.member, grant.role]
      } == {
      for entry_point in ["manage_mailboxes", "oauth_callback"] : entry_point => [
        google_service_account.function[entry_point].member,
        google_project_iam_custom_role.token_keeper[0].id,
      ]
    }
    error_message = "It keeps consents, as manage_mailboxes does; functions that only sync do not."
  }

  assert {
    condition     = keys(google_project_iam_member.token_remover) == ["manage_mailboxes", "oauth_callback", "run_work"]
    error_message = "It takes back the consent that it has just kept, where the mailbox is gone by then."
  }
}

run "bodies_and_build" {
  command = plan

  assert {
    condition = {
      for entry_point, grant in google_storage_bucket_iam_member.body_writer : entry_point => [grant.bucket, grant.role, grant.member]
      } == {
      for entry_point in ["sync_history", "run_work", "trigger_sync", "manage_mailboxes"] : entry_point => [
        google_storage_bucket.bodies[0].name,
        google_project_iam_custom_role.body_writer.id,
        google_service_account.function[entry_point].member,
      ]
    }
    error_message = "Only functions that bring mail, or delete mailboxes, write and delete large bodies."
  }

  assert {
    condition     = google_project_iam_custom_role.body_writer.permissions == toset(["storage.objects.create", "storage.objects.delete", "storage.objects.list"])
    error_message = "They write, list and delete bodies and do not read them."
  }

  assert {
    condition = {
      for entry_point, grant in google_storage_bucket_iam_member.body_reader : entry_point => [grant.bucket, grant.role, grant.member]
      } == {
      for entry_point in ["read_mailboxes"] : entry_point => [
        google_storage_bucket.bodies[0].name,
        google_project_iam_custom_role.body_reader.id,
        google_service_account.function[entry_point].member,
      ]
    }
    error_message = "Only the function that applications call reads bodies and attachments."
  }

  assert {
    condition     = google_project_iam_custom_role.body_reader.permissions == toset(["storage.objects.get", "storage.objects.list"])
    error_message = "It reads and lists, and changes nothing."
  }

  assert {
    condition = (
      google_artifact_registry_repository_iam_member.build_writer.member == google_service_account.build.member &&
      google_artifact_registry_repository_iam_member.build_writer.repository == google_artifact_registry_repository.images.name &&
      google_artifact_registry_repository_iam_member.build_writer.role == "roles/artifactregistry.writer" &&
      google_project_iam_member.build_logs.member == google_service_account.build.member &&
      google_project_iam_member.build_logs.role == "roles/logging.logWriter"
    )
    error_message = "The build writes the image and its log."
  }

  assert {
    condition = (
      google_project_iam_member.build_source.member == google_service_account.build.member &&
      google_project_iam_member.build_source.role == "roles/storage.objectViewer" &&
      google_project_iam_member.build_source.condition[0].expression == join(" || ", [
        "resource.name.startsWith(\"projects/_/buckets/my-project-mailmirror-source\")",
        "resource.name.startsWith(\"projects/_/buckets/gcf-v2-sources-123456789012-\")",
      ])
    )
    error_message = "The build reads the bundle and the functions service's copy of it, and no other bucket."
  }
}
