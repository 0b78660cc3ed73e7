variable "project" {
  type        = string
  description = "Id of the project that Mailmirror is deployed into; builds run there too. Keep it for Mailmirror alone."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "project must be a project id such as my-project-123: 6 to 30 lower-case letters, digits and hyphens."
  }
}

variable "region" {
  type        = string
  description = "Region that Mailmirror is deployed into, and of the state bucket."

  validation {
    condition     = can(regex("^[a-z]+(-[a-z]+)+[0-9]+$", var.region))
    error_message = "region must be a region such as europe-west1, not a zone or a multi-region."
  }
}

variable "repository" {
  type        = string
  description = "Full name of the Cloud Build repository (2nd generation) with this code. A person connects it in the console: that takes consent. Builds run in its region."

  validation {
    condition     = can(regex("^projects/[^/]+/locations/[a-z]+(-[a-z]+)+[0-9]+/connections/[^/]+/repositories/[^/]+$", var.repository))
    error_message = "repository must be a full name such as projects/my-project/locations/europe-west1/connections/github/repositories/mailmirror."
  }
}
