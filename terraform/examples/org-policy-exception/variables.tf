variable "project" {
  type        = string
  description = "Id of the project that Mailmirror is deployed into."

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "project must be a project id such as my-project-123: 6 to 30 lower-case letters, digits and hyphens."
  }
}

variable "constraints" {
  type        = set(string)
  description = "Which constraints are in the way: managed (iam.managed.allowedPolicyMembers), legacy (iam.allowedPolicyMemberDomains). Empty excepts nothing."
  default     = []

  validation {
    condition     = length(setsubtract(var.constraints, ["managed", "legacy"])) == 0
    error_message = "constraints must be managed, legacy or both."
  }
}

variable "organization" {
  type        = string
  description = "Number of the organization, whose own principals the managed constraint goes on allowing. Not needed for the legacy one."
  default     = null

  validation {
    condition     = !contains(var.constraints, "managed") || can(regex("^[0-9]+$", var.organization))
    error_message = "organization must be a number such as 123456789012, as `gcloud organizations list` shows it."
  }
}
