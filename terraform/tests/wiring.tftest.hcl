# What is connected with what: topics, subscriptions, functions and schedules.

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

run "pushes" {
  command = plan

  assert {
    condition = {
      for name, subscription in google_pubsub_subscription.push : name => subscription.push_config[0].push_endpoint
      } == {
      "gmail-notifications" = google_cloudfunctions2_function.function["sync_history"].service_config[0].uri
      "mailbox-work"        = google_cloudfunctions2_function.function["run_work"].service_config[0].uri
    }
    error_message = "Notifications are pushed to sync_history and work to run_work."
  }

  assert {
    condition = alltrue([
      for subscription in google_pubsub_subscription.push : (
        subscription.push_config[0].oidc_token[0].audience == subscription.push_config[0].push_endpoint &&
        subscription.push_config[0].oidc_token[0].service_account_email == google_service_account.push.email
      )
    ])
    error_message = "Each push carries a token of the push account, made for the function's own address."
  }

  assert {
    condition = alltrue([
      for name, subscription in google_pubsub_subscription.push : subscription.topic == google_pubsub_topic.topic[name].id
    ])
    error_message = "Each push subscription is on the topic it is named after."
  }

  assert {
    condition = alltrue([
      for name, subscription in google_pubsub_subscription.push : (
        subscription.ack_deadline_seconds == 600 &&
        subscription.ack_deadline_seconds >= google_cloudfunctions2_function.function[local.pushes[name]].service_config[0].timeout_seconds
      )
    ])
    error_message = "Pub/Sub waits 600 s, and for as long as the function may take: else it pushes a message that is being worked on."
  }

  assert {
    condition = alltrue([
      for subscription in google_pubsub_subscription.push : (
        subscription.retry_policy[0].minimum_backoff == "10s" && subscription.retry_policy[0].maximum_backoff == "600s"
      )
    ])
    error_message = "A push that failed is repeated after 10 to 600 s."
  }
}

run "dead_letters" {
  command = plan

  assert {
    condition = alltrue([
      for name, subscription in google_pubsub_subscription.push : (
        subscription.dead_letter_policy[0].dead_letter_topic == google_pubsub_topic.dead_letters[name].id &&
        subscription.dead_letter_policy[0].max_delivery_attempts == 20
      )
    ])
    error_message = "What was pushed 20 times in vain goes to the dead letters of its own topic."
  }

  assert {
    condition = alltrue([
      for name, topic in google_pubsub_topic.dead_letters : google_pubsub_subscription.dead_letters[name].topic == topic.id
    ])
    error_message = "Dead letters are kept: each of their topics has a subscription."
  }

  assert {
    condition = alltrue([
      for subscription in google_pubsub_subscription.dead_letters : (
        subscription.message_retention_duration == "2678400s" && length(subscription.push_config) == 0
      )
    ])
    error_message = "Dead letters wait 31 days, the most there is, for a person."
  }

  assert {
    condition = alltrue([
      for subscription in concat(values(google_pubsub_subscription.push), values(google_pubsub_subscription.dead_letters)) :
      subscription.expiration_policy[0].ttl == ""
    ])
    error_message = "No subscription expires, however long no mail comes."
  }
}

run "schedules" {
  command = plan

  assert {
    condition = alltrue([
      for entry_point, job in google_cloud_scheduler_job.job : (
        job.http_target[0].uri == google_cloudfunctions2_function.function[entry_point].service_config[0].uri &&
        job.http_target[0].http_method == "POST" &&
        job.http_target[0].oidc_token[0].audience == job.http_target[0].uri &&
        job.http_target[0].oidc_token[0].service_account_email == google_service_account.scheduler.email
      )
    ])
    error_message = "Each job calls the function it is named after with a token of the scheduler's account, made for that function."
  }

  assert {
    condition     = toset(keys(google_cloud_scheduler_job.job)) == toset(["renew_watches", "sweep_mailboxes"])
    error_message = "Two functions are called by the clock."
  }

  assert {
    condition = alltrue([
      for entry_point, job in google_cloud_scheduler_job.job : (
        job.retry_config[0].retry_count == 3 &&
        tonumber(trimsuffix(job.attempt_deadline, "s")) > google_cloudfunctions2_function.function[entry_point].service_config[0].timeout_seconds
      )
    ])
    error_message = "A job that failed is repeated, and waits longer than the function may take."
  }

  assert {
    condition = alltrue([
      for job in google_cloud_scheduler_job.job : job.time_zone == "Etc/UTC" && job.region == "europe-west1"
    ])
    error_message = "Schedules are in UTC, and run in the region unless told otherwise."
  }

  assert {
    condition = (
      google_cloud_scheduler_job.job["renew_watches"].schedule == "17 3 * * *" &&
      google_cloud_scheduler_job.job["sweep_mailboxes"].schedule == "*/5 * * * *"
    )
    error_message = "Watches are renewed daily, mailboxes swept every five minutes."
  }
}

run "functions" {
  command = plan

  assert {
    condition = alltrue([
      for entry_point, function in google_cloudfunctions2_function.function : (
        function.build_config[0].entry_point == entry_point && function.name == "mailmirror-${replace(entry_point, "_", "-")}"
      )
    ])
    error_message = "Each function is named after its entry point."
  }

  assert {
    condition = alltrue([
      for function in google_cloudfunctions2_function.function : (
        function.service_config[0].environment_variables.THREADS == tostring(function.service_config[0].max_instance_request_concurrency)
      )
    ])
    error_message = "An instance has a thread for each request it is sent: THREADS is the concurrency."
  }

  assert {
    condition = alltrue([
      for function in google_cloudfunctions2_function.function : (
        function.service_config[0].max_instance_request_concurrency == 1 ||
        try(tonumber(function.service_config[0].available_cpu), 0) >= 1
      )
    ])
    error_message = "Cloud Run refuses several requests at a time on less than one CPU."
  }

  assert {
    condition = alltrue([
      for entry_point, function in google_cloudfunctions2_function.function :
      function.service_config[0].service_account_email == google_service_account.function[entry_point].email
    ])
    error_message = "Each function runs as its own account."
  }

  assert {
    condition     = length(distinct(values(google_service_account.function)[*].account_id)) == length(google_cloudfunctions2_function.function)
    error_message = "No two functions share an account."
  }

  assert {
    condition = alltrue([
      for entry_point in values(local.pushes) : (
        tonumber(google_cloudfunctions2_function.function[entry_point].service_config[0].environment_variables.STEP_SECONDS) + 60
        <= google_cloudfunctions2_function.function[entry_point].service_config[0].timeout_seconds
      )
    ])
    error_message = "A step ends a minute before the function is stopped: the slice in hand needs the rest."
  }

  assert {
    condition     = alltrue([for function in google_cloudfunctions2_function.function : function.service_config[0].min_instance_count == 0])
    error_message = "Nothing runs, and costs, while there is nothing to do."
  }
}

run "environment" {
  command = plan

  assert {
    condition = alltrue([
      for function in google_cloudfunctions2_function.function : (
        function.service_config[0].environment_variables.GMAIL_TOPIC == google_pubsub_topic.topic["gmail-notifications"].id &&
        function.service_config[0].environment_variables.WORK_TOPIC == google_pubsub_topic.topic["mailbox-work"].id
      )
    ])
    error_message = "The functions are told the topics that there are."
  }

  assert {
    condition = alltrue([
      for function in google_cloudfunctions2_function.function : (
        function.service_config[0].environment_variables.BODY_BUCKET == google_storage_bucket.bodies[0].name &&
        function.service_config[0].environment_variables.FIRESTORE_DATABASE == google_firestore_database.main[0].name
      )
    ])
    error_message = "The functions are told the bucket and the database that there are."
  }

  assert {
    condition = alltrue([
      for function in google_cloudfunctions2_function.function :
      function.service_config[0].environment_variables.GMAIL_DELEGATE == google_service_account.delegate[0].email
    ])
    error_message = "The functions are told the delegate that there is."
  }
}

run "bundle" {
  command = plan

  assert {
    condition     = strcontains(google_storage_bucket_object.functions.name, data.archive_file.functions.output_sha256)
    error_message = "The bundle is named by its content, so that a changed file deploys and nothing else does."
  }

  assert {
    condition = alltrue([
      for function in google_cloudfunctions2_function.function : (
        function.build_config[0].source[0].storage_source[0].bucket == google_storage_bucket.source.name &&
        function.build_config[0].source[0].storage_source[0].object == google_storage_bucket_object.functions.name
      )
    ])
    error_message = "Every function is built from the one bundle."
  }

  assert {
    condition = alltrue([
      for function in google_cloudfunctions2_function.function : (
        function.build_config[0].service_account == google_service_account.build.id &&
        function.build_config[0].docker_repository == google_artifact_registry_repository.images.id
      )
    ])
    error_message = "Every function is built by the build account into Mailmirror's own repository."
  }

  assert {
    condition     = output.bundle == google_storage_bucket_object.functions.name
    error_message = "The output names the bundle that is deployed."
  }
}

run "outputs" {
  command = plan

  assert {
    condition = (
      output.manage_mailboxes_uri == google_cloudfunctions2_function.function["manage_mailboxes"].service_config[0].uri &&
      output.trigger_sync_uri == google_cloudfunctions2_function.function["trigger_sync"].service_config[0].uri &&
      output.read_mailboxes_uri == google_cloudfunctions2_function.function["read_mailboxes"].service_config[0].uri
    )
    error_message = "The addresses are those of the functions for administrators and applications."
  }

  assert {
    condition = output.delegation == {
      client_id = google_service_account.delegate[0].unique_id
      scopes    = "https://www.googleapis.com/auth/gmail.readonly"
    }
    error_message = "A Workspace administrator is told the delegate's client id and the scopes as the page takes them."
  }

  assert {
    condition = output.dead_letter_subscriptions == {
      "gmail-notifications" = "gmail-notifications-dead-letters"
      "mailbox-work"        = "mailbox-work-dead-letters"
    }
    error_message = "The output names where dead letters wait."
  }
}
